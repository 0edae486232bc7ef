// Package serve answers text completion requests over HTTP as OpenAI's API does, whole or as server-sent events, token by token
// or sentence by sentence. It asks for text through Model, a small interface of its own.
//
// Endpoints:
//
//	POST /v1/completions    continue a prompt
//	GET  /v1/models         what is served; /v1/models/NAME is one of them
//	GET  /health            {"status":"ok"}, without a key
//
// Beside OpenAI's fields a request may have top_k, max_sentences and, where it streams, stream_by: "token" or "sentence". What a
// request asks for and the server cannot do is refused by name; nothing that would change the answer is ignored. Several prompts
// in one request are completed one after the other, in one place of the queue.
//
// A request is decoded, waits in a bounded queue for one of Config.Parallel places, and runs in a goroutine of its own, which
// hands text over without ever waiting for the client. So a client that reads slowly holds no place and delays no one. Its
// context ends when the client goes away, when Config.Timeout has passed or when the server shuts down.
//
// Limits, where Config does not say otherwise:
//
//	prompt                  512 KiB, all prompts of a request together
//	body                    twice that and 64 KiB; 20 s to send it
//	request line, headers   32 KiB; 10 s to send them
//	prompts of a request    32
//	stop strings            4 of 256 bytes
//	tokens of a choice      4096
//	running, waiting        8, 64; more are told to come back (429, Retry-After)
//	a request               10 minutes, the wait included
//	a client that does not read     15 s
//	connections             512; one more closes the one that is idle for longest, idle ones close after 60 s
//
// A page of another site, and one whose name was made to resolve to this machine, is kept out: the Host header and, where there
// is one, the Origin must name this server, and bodies must be application/json, which a browser asks leave for and never gets.
// Nothing that a client sends becomes a path or an address. The log has no text of prompts or answers.
package serve
