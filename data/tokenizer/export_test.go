package tokenizer

// HardStrings is for the tests of package tokenizer_test, which read GGUF files.
var HardStrings = hardStrings
