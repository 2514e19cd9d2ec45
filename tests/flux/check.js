// Has the language server of Flux judge every query of dashboards/flux and of docs/grafana.md: its words, its types, the arguments
// of every function.
// What Grafana puts in is put in as Grafana does. Usage: node tests/flux/check.js FOLDER-OF-THE-SERVER
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { Lsp } = require(path.resolve(process.argv[2]));

const FOLDER = path.join(__dirname, "../../dashboards/flux");
const DOCUMENT = path.join(__dirname, "../../docs/grafana.md");
// What a viewer may have chosen: everything, and values that mean something in a regular expression.
const CHOICES = [".*", "(192\\.0\\.2\\.1|a\\/b \\(c\\))"];
// Before anything is believed, the server must find these wrong.
const WRONG = [
    'from(bucket: "qos") |> range(start: -1h',
    'from(bucket: "qos") |> rangee(start: -1h)',
    'from(bucket: "qos") |> range(start: -1h) |> aggregateWindow(every: 1, fn: mean)',
    'from(bucket: "qos") |> range(start: -1h) |> aggregateWindow(every: 1m, fnn: mean)',
];

function interpolated(query, choice) {
    const put = {
        "v.timeRangeStart": "2026-01-01T00:00:00Z",
        "v.timeRangeStop": "2026-01-02T00:00:00Z",
        "v.windowPeriod": "1m0s",
        "v.defaultBucket": '"qos"',
    };
    let text = query;
    for (const [name, value] of Object.entries(put)) text = text.replaceAll(name, value);
    text = text.replace(/\$\{\w+:regex\}/g, choice);
    if (/\$[{\w]|\bv\.\w/.test(text)) throw new Error(`something is left that Grafana would not know: ${text}`);
    return text;
}

// Every query of a dashboard, with where it stands.
function* queries(file) {
    const board = JSON.parse(fs.readFileSync(path.join(FOLDER, file), "utf8"));
    for (const variable of board.templating.list) {
        if (variable.type === "query") yield [`${file}: variable ${variable.name}`, variable.query];
    }
    const panels = board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
    for (const panel of panels) {
        for (const target of panel.targets ?? []) yield [`${file}: ${panel.title}, ${target.refId}`, target.query];
    }
}

// Those that people are told to use.
function* documented() {
    const blocks = [...fs.readFileSync(DOCUMENT, "utf8").matchAll(/```flux\n([^]*?)```/g)];
    if (blocks.length === 0) throw new Error(`no query in ${DOCUMENT}`);
    for (const [, query] of blocks) yield ["docs/grafana.md", query];
}

function* everything() {
    for (const file of fs.readdirSync(FOLDER).sort()) yield* queries(file);
    yield* documented();
}

async function main() {
    const told = new Map();
    const server = new Lsp();
    server.onMessage((message) => {
        const { method, params } = JSON.parse(message);
        if (method === "textDocument/publishDiagnostics") told.get(params.uri)?.(params.diagnostics);
    });
    server.run();
    const send = (message) => server.send(JSON.stringify({ jsonrpc: "2.0", ...message }));
    await send({ id: 1, method: "initialize", params: { capabilities: {} } });
    await send({ method: "initialized", params: {} });

    let asked = 0;
    const judge = async (text) => {
        const uri = `file:///${asked++}.flux`;
        const answer = new Promise((resolve) => told.set(uri, resolve));
        const slow = new Promise((_, reject) => setTimeout(reject, 30_000, new Error(`no word about: ${text}`)).unref());
        await send({ method: "textDocument/didOpen", params: { textDocument: { uri, languageId: "flux", version: 1, text } } });
        return (await Promise.race([answer, slow])).map((one) => one.message);
    };

    for (const text of WRONG) {
        if ((await judge(text)).length === 0) throw new Error(`the server finds nothing wrong with: ${text}`);
    }
    let bad = 0;
    let good = 0;
    for (const [where, query] of everything()) {
        for (const choice of CHOICES) {
            const wrong = await judge(interpolated(query, choice));
            if (wrong.length === 0) {
                good++;
                continue;
            }
            bad++;
            console.error(`${where}:\n${query}\n  ${wrong.join("\n  ")}\n`);
        }
    }
    if (good + bad === 0) throw new Error(`no query in ${FOLDER}`);
    console.log(`flux: ${good} passed, ${bad} failed`);
    process.exit(bad === 0 ? 0 : 1);
}

main().catch((error) => {
    console.error(`flux: ${error.message}`);
    process.exit(1);
});
