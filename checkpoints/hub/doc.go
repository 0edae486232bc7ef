// Package hub downloads models from the Hugging Face Hub, or from a server that speaks its paths, into the cache that the
// Python library huggingface_hub keeps: what either has downloaded the other finds.
//
// [Fetch] asks for the list of a repository's files at one commit, chooses those that a conversion needs, downloads what
// the cache lacks and compares its checksum. A download that broke off goes on where it ended, also in a later process.
//
// The server is not trusted. Names of files are plain names from a fixed list, or what the user or an index of shards names
// and the repository lists; commits and checksums are hexadecimal; every answer is bounded. The token goes to the endpoint
// alone, never to the host of a redirect, and into no message.
package hub

// Limits on what a server may answer, and on how long it is asked.
const (
	maxListing   = 32 << 20  // bytes of the answer that lists a repository
	maxFiles     = 100_000   // files of a repository
	maxIndex     = 100 << 20 // bytes of an index of shards
	maxShards    = 10_000    // shards of a model
	maxRedirects = 10
	maxTries     = 5   // attempts in a row that brought less than progress bytes
	maxAttempts  = 100 // attempts in all, for one file
	progress     = 1 << 20
)
