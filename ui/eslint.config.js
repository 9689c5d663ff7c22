import js from "@eslint/js";
import svelte from "eslint-plugin-svelte";
import globals from "globals";
import typescript from "typescript-eslint";

import svelteConfig from "./svelte.config.js";

export default typescript.config(
  // The generated contract is written by `make types`.
  { ignores: ["dist", "dist-fixtures", "screenshots", "src/lib/backend/generated"] },
  js.configs.recommended,
  typescript.configs.recommended,
  svelte.configs.recommended,
  svelte.configs.prettier,
  { languageOptions: { globals: { ...globals.browser, ...globals.node } } },
  {
    files: ["**/*.svelte", "**/*.svelte.ts"],
    languageOptions: { parserOptions: { parser: typescript.parser, extraFileExtensions: [".svelte"], svelteConfig } },
  },
  // The TypeScript compiler finds names that are not defined, and knows which are.
  { files: ["**/*.ts", "**/*.svelte"], rules: { "no-undef": "off" } },
);
