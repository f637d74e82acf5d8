//go:build race

package frame_test

const raceDetector = true // which allocates by itself
