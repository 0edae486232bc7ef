# One command each; README and CI use these.
GO ?= go
export CGO_ENABLED ?= 0

.PHONY: build demo test check fmt vet lint race fuzz bench golden

build: ## one static binary, bin/svae
	$(GO) build -trimpath -o bin/svae ./cmd/svae

demo: build ## the whole job on a real book; everything lies under demo-out
	./bin/svae demo --force

test: ## needs Go alone
	$(GO) test ./...
