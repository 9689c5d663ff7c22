// Runs a script of this folder that is written in TypeScript: `node scripts/run.js screenshots containers --quick`.
import { runnerImport } from "vite";

const [name, ...rest] = process.argv.splice(2);
process.argv.push(...rest);
await runnerImport(`./scripts/${name}.ts`, { configFile: false });
