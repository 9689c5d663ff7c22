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
  // Plain maps here are indexes and intermediate results; what a page reacts to is `$state` beside them.
  { rules: { "svelte/prefer-svelte-reactivity": "off" } },
  // The TypeScript compiler finds undefined names, with the types of every environment at hand.
  { files: ["**/*.ts", "**/*.svelte"], rules: { "no-undef": "off" } },
);
