// Runs a TypeScript script of this folder: `node scripts/run.js screenshots containers --quick`.
import { runnerImport } from "vite";

const [name, ...rest] = process.argv.splice(2);
process.argv.push(...rest);
await runnerImport(`./scripts/${name}.ts`, { configFile: false });
