import "./app.css";

import { mount } from "svelte";

import App from "./App.svelte";
import { chooseBackend } from "./lib/backend";
import { setBackend } from "./lib/stores/page.svelte";

const target = document.getElementById("app");
if (!target) throw new Error("the page has no place for the application");
setBackend(await chooseBackend());
mount(App, { target });
