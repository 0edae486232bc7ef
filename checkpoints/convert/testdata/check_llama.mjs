// What the real llama.cpp writes, greedily, from a GGUF file that svae wrote:
//
//   npm install node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1 --ignore-scripts
//   node check_llama.mjs FILE.gguf TOKENS PROMPT
//
// PROMPT is text, which llama.cpp tokenizes, or a JSON list of ids. Prints {"ids": of the prompt, "out": ids, "text": ...}.
import { getLlama } from "node-llama-cpp";

const [file, tokens, prompt] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: 128, threads: 2 });
let ids;
if (prompt.startsWith("[")) {
  ids = JSON.parse(prompt);
} else {
  ids = model.tokenize(prompt, false);
  if (model.tokens.bos != null && ids[0] !== model.tokens.bos) ids.unshift(model.tokens.bos);
}
const out = [];
for await (const id of context.getSequence().evaluate(ids, { temperature: 0 })) {
  if (out.push(id) >= Number(tokens)) break;
}
console.log(JSON.stringify({ ids, out, text: model.detokenize(out) }));
process.exit(0);
