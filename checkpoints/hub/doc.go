// Package hub downloads models from the Hugging Face Hub, or from a server that speaks its paths, into the cache that the
// Python library huggingface_hub keeps: what either has downloaded the other finds.
//
// [Fetch] asks for the list of a repository's files at one commit, chooses those that a conversion needs, downloads what
// the cache lacks and compares its checksum. A download that broke off goes on where it ended, also in a later process.
//
// [List] says what Fetch would take, and downloads no weights.
//
// The server is not trusted. Names of files are plain names from a fixed list, or what the user or an index of shards names
// and the repository lists; commits and checksums are hexadecimal; every answer is bounded, and a file to 1 TiB. A server may
// be silent for a minute and must bring 1 MiB in five, else the attempt ends; what came is kept, and after five attempts in a
// row that brought less than 1 MiB Fetch gives up. The server's words reach no message unless what a terminal obeys is escaped.
// The token goes to the endpoint alone, never to the host of a redirect, and into no message.
package hub

import "time"

// Limits on what a server may answer, and on how long it is asked.
const (
	maxListing   = 32 << 20  // bytes of the answer that lists a repository
	maxFiles     = 100_000   // files of a repository
	maxFile      = 1 << 40   // bytes of a file
	maxIndex     = 100 << 20 // bytes of an index of shards
	maxShards    = 10_000    // shards of a model
	maxToken     = 4096      // bytes of the file of a token
	maxRedirects = 10
	maxTries     = 5   // attempts in a row that brought less than progress bytes
	maxAttempts  = 100 // attempts in all, for one file
	progress     = 1 << 20
	stall        = time.Minute     // longest silence
	window       = 5 * time.Minute // in which a download brings progress bytes at least
)
