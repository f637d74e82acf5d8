// Package audit keeps the trail of an appliance: who did what, one JSON line for each event, in an order that cannot be
// changed afterwards without its being seen.
//
//	log, err := audit.Open(audit.Config{Dir: "/var/lib/sallyport/audit", Key: identity, Name: "bastion-1"})
//	err = log.Write(audit.Event{Kind: audit.FlowOpen, User: "ann", Target: "db-1", Flow: id}) // nil: the line is written
//	err = log.Export("siem", sink)
//	report, err := audit.Verify(os.DirFS(copied), publicKey) // offline; names the first broken line
//
// # What a nil from Write means
//
// The kernel has the whole line, so it survives the death of the process. The disk has it within Config.Sync, or before
// Write returns if that is negative; until then a loss of power may cost it. After an error nobody may rely on the line,
// and whoever asked for the event to be recorded must not go on. The next Write tries again.
//
// # The chain
//
// Each line holds the SHA-256 of the line before it. Now and then the log says a signed head, a line whose Ed25519
// signature covers all lines up to it. Each segment begins with one, and head.json is a copy of the latest: so lines that
// are changed, taken out, put in, moved or cut off at the end are found, by [Verify] and by the next [Open].
//
// # What the chain cannot show
//
// Whoever may write in the folder, and takes back everything, head.json too, to an earlier head, leaves a log that is
// whole and short. Lines after the last head are chained and not signed yet. Only a head that is kept elsewhere tells
// these: exporters carry each head out, and a [Verifier] can be given one.
//
// # Files
//
//	audit-00000000000000000001.jsonl   a segment, named by the number of its first line
//	head.json                          the latest signed head
//	export-NAME.json                   how far an exporter has come
//	lock                               held by the one process that writes
//
// The folder is 0700, the files are 0600.
package audit
