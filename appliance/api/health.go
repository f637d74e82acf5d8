package api

import "time"

// A Health is how an appliance has been for the last hour.
type Health struct {
	Version string         `json:"version"`
	Since   time.Time      `json:"since"`    // when it has begun to measure
	Every   time.Duration  `json:"every_ns"` // between samples
	CPUs    int            `json:"cpus"`     // that it may use
	Samples []HealthSample `json:"samples"`  // the latest last
}

// A HealthSample is how it was between the sample before and this one.
type HealthSample struct {
	Time   time.Time `json:"time"`
	Flows  int       `json:"flows"`
	Up     int64     `json:"up_bits"`   // a second, to targets
	Down   int64     `json:"down_bits"` // a second, from targets
	CPU    float64   `json:"cpu"`       // processors that were busy with it
	Memory uint64    `json:"memory"`    // bytes
}

// A Setting is a line of the configuration that is in force.
type Setting struct {
	Key   string `json:"key"` // as in sallyport.yaml: listen.address
	Value string `json:"value"`
}

// A Reach is whether a target could be reached, when somebody last wanted to.
type Reach struct {
	Time time.Time `json:"time"`
	OK   bool      `json:"ok"`
	Why  string    `json:"why,omitempty"` // it could not
	Hint string    `json:"hint,omitempty"`
}
