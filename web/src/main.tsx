import { render } from "preact";
import { saveBeforeClosing } from "./answering";
import { openChats } from "./chats";
import { App } from "./components/app";
import { connect, watchNetwork } from "./connection";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/messages.css";
import "./styles/markdown.css";
import "./styles/dialogs.css";
import "./styles/memory.css";
import { applyTheme } from "./theme";

applyTheme();
openChats();
saveBeforeClosing();
watchNetwork();
void connect();

// A module may run before the body is parsed when it blocks rendering.
const mount = (): void => render(<App />, document.getElementById("app")!);
if (document.readyState === "loading") addEventListener("DOMContentLoaded", mount);
else mount();
