package bench

import "fmt"

// Units of measures.
const (
	Gbit       = "Gbit/s"
	Mbit       = "Mbit/s"
	CPUPerGiB  = "CPU-s/GiB"
	Micro      = "µs"
	Milli      = "ms"
	KiBPerFlow = "KiB/flow"
	Percent    = "%"
)

// A Measure is one number about a candidate.
type Measure struct {
	Name   string `json:"name"`
	Group  string `json:"group"` // measures of a group stand in one table
	Unit   string `json:"unit"`
	Higher bool   `json:"higher"` // more is better
	Says   string `json:"says"`   // what it means, in a sentence
}

// Groups of measures, in the order of the report.
var groups = []struct{ name, title string }{
	{"bulk", "Throughput, Gbit/s, and as a share of direct"},
	{"cpu", "CPU time of the gateway, CPU-s/GiB"},
	{"latency", "Latency"},
	{"fair", "Beside bulk flows of the same person and of another"},
	{"idle", "Memory of idle flows in the gateway, KiB per flow"},
	{"frames", "The target's packets are single frames of 1,500 bytes"},
	{"wan", "Goodput over an impaired way, Mbit/s, and as a share of direct"},
}

func direction(up bool) (name, says string) {
	if up {
		return "up", "from client to target"
	}
	return "down", "from target to client"
}

// BulkMeasures are throughput and CPU time of flows in one direction.
func BulkMeasures(up bool, flows int) (rate, cpu Measure) {
	name, says := direction(up)
	of := fmt.Sprintf("%d flows", flows)
	if flows == 1 {
		of = "one flow"
	}
	rate = Measure{fmt.Sprintf("%s-%d", name, flows), "bulk", Gbit, true, "throughput of " + of + " " + says + ", counted where it arrives"}
	cpu = Measure{"cpu-" + rate.Name, "cpu", CPUPerGiB, false, "CPU time of all processes of the gateway for each GiB of " + rate.Name}
	return rate, cpu
}

// The other measures.
var (
	RTTP50      = Measure{"rtt-p50", "latency", Micro, false, "one byte there and back on an open flow, the median"}
	RTTP99      = Measure{"rtt-p99", "latency", Micro, false, "the same, the 99th of 100"}
	TypingP99   = Measure{"typing-p99", "latency", Micro, false, "the same beside one bulk flow downward, the 99th of 100"}
	TypingMore  = Measure{"typing-added", "latency", Micro, false, "typing-p99 less rtt-p99 of the same round"}
	Typing8     = Measure{"typing-8-p99", "fair", Micro, false, "rtt-p99 beside four bulk flows upward and four downward of the same client"}
	TypingOther = Measure{"typing-others-p99", "fair", Micro, false, "the same beside those of another person"}
	OtherMore   = Measure{"typing-others-added", "fair", Micro, false, "typing-others-p99 less rtt-p99 of the same round"}
	ShareUp     = Measure{"share-up", "fair", Percent, true, "what one bulk flow upward gets of the whole beside eight of another person"}
	ShareDown   = Measure{"share-down", "fair", Percent, true, "the same downward"}

	OpenWarm = Measure{"open-warm", "latency", Micro, false, "a new flow by a client that runs, from connect to the first echoed byte, the median"}
	OpenCold = Measure{"open-cold", "latency", Milli, false, "the same from the start of the client's process, signing in included"}

	Frames    = Measure{"frames-down-1", "frames", Gbit, true, "down-1 while the target's NIC sends single frames of 1,500 bytes, as where no NIC joins them"}
	FramesCPU = Measure{"cpu-frames-down-1", "frames", CPUPerGiB, false, "CPU time of the gateway for each GiB of it"}
)

// Idle is the memory of so many flows that do nothing.
func Idle(flows int) Measure {
	return Measure{fmt.Sprintf("idle-%d", flows), "idle", KiBPerFlow, false,
		fmt.Sprintf("growth of the gateway's own memory (PSS) by %d flows that have echoed one byte each, for each of them; socket buffers of the kernel are not in it", flows)}
}

// IdleOpen is what a new flow takes while so many others are open.
func IdleOpen(flows int) Measure {
	return Measure{fmt.Sprintf("open-beside-%d", flows), "idle", Micro, false, fmt.Sprintf("open-warm while %d idle flows are open", flows)}
}

// WAN is the goodput of one flow by an impaired way.
func WAN(path string, up bool) Measure {
	name, says := direction(up)
	return Measure{"wan-" + path + "-" + name, "wan", Mbit, true, "goodput of one flow " + says + " by a way with round trip time and loss (each direction) " + path}
}
