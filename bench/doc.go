// Package bench measures how fast bytes, keystrokes and connections pass a gateway, and says what the figures mean.
//
//	go bench.Serve(ctx, listener)                                    // at the target
//	bulk, err := bench.Bulk(ctx, dial, bench.BulkLoad{Flows: 8})     // at the client: dial leads there, whatever is between
//	report.Add(bench.Sample{Candidate: "https", Measure: "down-8", Round: 1, Value: bulk.Gbit()})
//	verdict := goals.Judge(report)
//
// # What is compared
//
// A candidate is one way from a client to a target; a measure is one number about it. Candidates are measured one after
// the other, in rounds, because a shared machine is faster at one time than at another: a figure means little, its
// ratio to another of the same round means something. Results are medians over rounds of values, and medians over rounds
// of ratios.
//
// Package lab builds the machines and runs the rounds.
package bench
