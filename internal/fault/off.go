//go:build !faultpoints

// Package fault marks the points between which a crash must do no harm. In a
// normal build a point does nothing; a build with the tag faultpoints kills
// itself there on demand, for tests.
package fault

// Step is passed before and after each step that changes something outside
// the process.
func Step(string) {}

// Media is passed before each part of a device is zeroed.
func Media(uint64, uint64) error { return nil }
