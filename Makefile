# One command each; README and CI use these.
GO ?= go
export CGO_ENABLED ?= 0
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZ_SECONDS ?= 60
PACKAGES = ./checkpoints/... ./cmd/... ./data/... ./kernels/... ./sllm/... ./train/... ./vae/...
RACE = ./checkpoints/... ./cmd/svae ./data/... ./kernels/cpu ./kernels/kv ./kernels/op ./sllm/... ./train ./vae

.PHONY: build demo test check fmt vet lint race fuzz demo-tiny bench golden peers

build: ## one static binary, bin/svae
	$(GO) build -trimpath -o bin/svae ./cmd/svae

demo: build ## the whole job on a real book; everything lies under demo-out
	./bin/svae demo --force

test: ## needs Go alone
	$(GO) test $(PACKAGES)
	CGO_ENABLED=0 $(GO) test -tags gpu ./kernels/cuda

check: fmt vet lint race fuzz demo-tiny ## what CI runs after make test

fmt:
	@files=$$(gofmt -l checkpoints cmd data kernels sllm train vae); test -z "$$files" || { echo "not gofmt-ed: $$files"; exit 1; }

vet:
	$(GO) vet $(PACKAGES)
	$(GO) vet -tags noasm ./kernels/...

lint:
	$(GO) run $(STATICCHECK) $(PACKAGES)

race: ## needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m $(RACE)

fuzz: ## all fuzz targets share FUZZ_SECONDS
	GO=$(GO) bash .ci/fuzz $(FUZZ_SECONDS)

demo-tiny: build ## every stage of the demo, at its smallest scale
	./bin/svae demo --force --scale tiny --out demo-tiny

bench: ## kernels, in GFLOP/s and GB/s
	$(GO) test -run '^$$' -bench . ./kernels/cpu ./data/tokenizer

peers: build ## what svae convert writes, read by real transformers and PyTorch; with LLAMA=FOLDER by llama.cpp, too (see the script)
	python3 checkpoints/convert/testdata/check_peers.py bin/svae cmd/svae/demo/base $(LLAMA)

golden: ## remakes the fixtures that real PyTorch and tokenizers give; needs Python (see the scripts)
	python3 vae/testdata/make.py
	python3 sllm/testdata/make.py
	python3 sllm/testdata/make_families.py
	python3 sllm/testdata/make_reference.py
	python3 checkpoints/testdata/make.py
	python3 checkpoints/testdata/make_gguf.py
	python3 data/tokenizer/testdata/make.py
	python3 kernels/kv/testdata/make.py
