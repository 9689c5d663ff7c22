import { defineConfig } from "vitest/config";

// One machine and one browser for all: the files follow one another.
export default defineConfig({
  test: {
    environment: "node",
    include: ["browser/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 180_000,
    reporters: ["verbose"],
  },
});
