// Command pmemctl turns the persistent memory of a Linux machine into volumes.
package main

import (
	"os"

	"github.com/pmemctl/pmemctl/internal/cli"
)

func main() { os.Exit(cli.Main()) }
