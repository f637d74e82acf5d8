//go:build race

package measure

const raceDetector = true // which allocates by itself
