// Package testenv names the environment variables that make, the host's side of the tests in
// guests, and the tests in the guest share. They choose how much of a test is run.
package testenv

import "os"

// Set by make.
const (
	// Rest is set by make test-rest, which runs what make test leaves out; "all" is for
	// make test-all, and adds what CI has no time for.
	Rest = "PMEMCTL_REST"
	// Crash set to "all" kills at every step of an operation, and tries all ways of ending a volume.
	Crash = "PMEMCTL_CRASH"
	// Flush set to "all" replays many more prefixes of what was written.
	Flush = "PMEMCTL_FLUSH"
	// Stress is how long the stress test runs, as Go writes durations.
	Stress = "PMEMCTL_STRESS"
	// Cuts is the number of power cuts; Seed repeats the times of another run.
	Cuts = "PMEMCTL_CUTS"
	Seed = "PMEMCTL_SEED"
	// Pods is how many pods there are at once, and Rounds how often they come and go.
	Pods   = "PMEMCTL_PODS"
	Rounds = "PMEMCTL_ROUNDS"
)

// Set by the host's side of the power cut test: the number of the cut, and the oldest cut whose
// volumes stay.
const (
	Cut       = "PMEMCTL_CUT"
	CutOldest = "PMEMCTL_CUT_OLDEST"
)

// IsRest reports whether this is make test-rest.
func IsRest() bool { return os.Getenv(Rest) != "" }

// All reports whether the variable, Rest, Crash or Flush, asks for all there is.
func All(name string) bool { return os.Getenv(name) == "all" }

// IsCampaign reports whether all there is of a guest is to run, however long it takes.
func IsCampaign() bool { return All(Crash) || All(Flush) || os.Getenv(Stress) != "" }

// ForGuest lists the variables that a test in a guest looks at, as NAME=VALUE.
func ForGuest() (env []string) {
	for _, name := range []string{Crash, Flush, Stress} {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	return env
}
