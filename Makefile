# Targets for people: build, run, test, check. Everything else serves them.

GO      ?= go
VERSION ?= 0.1.0-dev
LDFLAGS  = -s -w -X main.version=$(VERSION)
TAGS     = urfave_cli_no_docs
ROOT     = $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env "PATH=$$PATH")

.PHONY: build run test check unit system namespaces machines browsers bench bench-baseline bench-once packages fuzz soak clean cross image vm web

build:
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags "$(LDFLAGS)" -o bin/ ./cmd/... ./tests/chaoslink

# The appliance as a virtual machine's image, in bin/image/FLAVOUR. FLAVOUR is one of all, aws, azure, gcp and kvm.
FLAVOUR ?= all
image:
	$(GO) run ./cmd/sallyport-image build --flavour $(FLAVOUR) --version $(VERSION) --out bin/image/$(FLAVOUR) $(ARGS)

# The portal's application, into appliance/portal/web/dist, which is committed: who builds the appliance needs no Node.
# package-lock.json says by which packages, to the byte.
web:
	cd appliance/portal/web && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm run build

# The main job on an embedded default: an appliance with two demo targets and a client. ARGS=--once ends it by itself.
run: build
	bin/sallyportd demo --allow-root $(ARGS)

# Everything: what the tests need is installed, then unit and system tests run. The system tests need root.
test: packages check system

check:
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(MAKE) cross unit bench-once

# The race detector runs over everything that needs neither root nor other programs, but for a PostgreSQL, which the tests
# start. Package image builds images and starts them in emulated machines, which takes minutes as it is.
UNIT = $(shell $(GO) list ./... | grep -v -e /host$$ -e /image$$ -e /image/deploy -e /netstack -e /tests/flow -e /tests/lab -e /tests/portal -e /tests/rdp -e /tests/release -e /tests/system -e /tests/vm)
unit:
	$(GO) test -race -timeout 10m $(UNIT)

# Real clients and servers in network namespaces of their own. What is ours in the same process runs under the race
# detector too.
system:
	$(ROOT) $(GO) test -race -timeout 15m -p 1 ./host ./host/boot ./host/source ./host/disk ./netstack/...
	$(MAKE) namespaces
	$(MAKE) browsers
	$(MAKE) machines

# One after the other: an emulated machine that gets too little of a processor takes its own worker for hung, and is right, and
# what measures in namespaces measures the machines then.
namespaces:
	$(ROOT) $(GO) test -timeout 40m -p 1 -parallel 4 ./tests/lab ./tests/release ./tests/system ./image/deploy
machines:
	$(ROOT) $(GO) test -timeout 60m -p 1 -parallel 3 ./image ./tests/vm

# Real browsers, each in a namespace of its own with an appliance and its targets. They draw desktops, and want the processor.
browsers:
	$(ROOT) $(GO) test -timeout 40m -p 1 -parallel 2 ./tests/flow ./tests/rdp ./tests/portal/...

# The image in QEMU, with two NICs and a real sshd behind the second one: its console, and a login through it.
vm:
	$(ROOT) $(GO) test -count=1 -timeout 20m ./tests/vm -run 'TestDisk$$' -v -console

# The benchmarks beside the code, and how they compare with a baseline, by benchstat. The committed one holds for the machine
# that it was made on; BASELINE=FILE names one of your own, which bench-baseline keeps. Transfer needs root.
BASELINE ?= bench/baseline.txt
MICRO     = $(GO) test -run '^$$' -bench . -skip Transfer
MEASURED  = ./appliance/audit ./appliance/policy ./client ./frame ./netstack ./netstack/link ./relay ./transport
bench:
	@mkdir -p bin
	$(MICRO) -benchtime 200ms -count 6 $(MEASURED) | tee bin/bench.txt
	@! grep ^FAIL bin/bench.txt
	$(GO) tool benchstat $(wildcard $(BASELINE)) bin/bench.txt

bench-baseline: bench
	cp bin/bench.txt $(BASELINE)

bench-once:
	$(MICRO) -benchtime 1x $(MEASURED)

# The person's command is built for every platform that it is meant for, and its tests at least compile there.
cross: cross-linux-arm64 cross-darwin-arm64 cross-windows-amd64
cross-%: private export GOOS = $(word 1,$(subst -, ,$*))
cross-%: private export GOARCH = $(word 2,$(subst -, ,$*))
cross-%:
	$(GO) vet -trimpath ./cmd/sallyport ./client
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags "$(LDFLAGS)" -o bin/$*/ ./cmd/sallyport

# What people install, into bin/release: docs/install.md. PLATFORM=linux-amd64 makes only what is for that.
release: private export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
release:
	$(GO) run -buildvcs=false ./cmd/sallyport-image release --out bin/release --version $(VERSION) $(PLATFORM:%=--platform %)

packages:
	$(ROOT) ./tests/packages.sh

FUZZTIME ?= 60s
fuzz:
	./tests/fuzz.sh $(FUZZTIME)

# The long forms of the tests, for hours rather than minutes: a hundred million mutated frames, SOAK flows to which
# everything happens at once, the tests in namespaces time and again, workers of the image that die fifty times in each way, and
# files of gigabytes and a minute of scrolling in browsers.
SOAK  ?= 1000000
TIMES ?= 10
soak:
	SALLYPORT_SOAK=1 $(GO) test -count=1 -timeout 1h ./image -run TestBuild
	SALLYPORT_SOAK=1 $(GO) test -count=1 -timeout 6h ./frame -run 'TestMutatedFrames|TestSoak' -soak $(SOAK)
	$(ROOT) $(GO) test -count=$(TIMES) -timeout 6h ./tests/system
	$(ROOT) env SALLYPORT_SOAK=1 $(GO) test -count=1 -timeout 6h ./tests/system -run 'TestDatabaseAway|TestKilled'
	$(ROOT) env SALLYPORT_SOAK=1 $(GO) test -count=1 -timeout 6h -parallel 3 ./tests/vm
	$(ROOT) env SALLYPORT_SOAK=1 $(GO) test -count=1 -timeout 6h -p 1 ./appliance/files ./tests/portal ./tests/portal/desktops -run 'TestLarge|TestFiles|TestXRDP'

clean:
	rm -rf bin tests/.cache
