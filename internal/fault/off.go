//go:build !faultpoints

// Package fault marks the points between which a crash must do no harm. In a normal build they do
// nothing; a build with the tag faultpoints can kill itself there, for tests.
package fault

// Step is called before and after each step that changes something outside the process.
func Step(string) {}

// Media is called before each part of a device is zeroed.
func Media(uint64, uint64) error { return nil }
