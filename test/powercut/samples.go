package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/criruntime/criruntime/test/fixtures"
)

const (
	registryName = "registry.test/"
	busybox      = "power/busybox:1"
	sampleCount  = 6
)

// sample is an image of which every byte is known.
type sample struct {
	name  string // in the registry
	image fixtures.Image
	// sum is what "find . -type f | sort | xargs sha256sum | sha256sum" says of it.
	sum string
}

// makeSamples are the same at each start. Two each share their lower layer.
func makeSamples() []sample {
	var all []sample
	for i := range sampleCount {
		s := sample{name: fmt.Sprintf("power/sample%d:1", i)}
		var lines []string
		for _, number := range []int{i / 2, 100 + i} {
			tree, sums := content(number)
			s.image.Layers = append(s.image.Layers, tree.Layer(fixtures.Gzip))
			lines = append(lines, sums...)
		}
		slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
		sum := sha256.Sum256([]byte(strings.Join(lines, "")))
		s.sum = hex.EncodeToString(sum[:])
		all = append(all, s)
	}
	return all
}

// content is a layer of small files and of some that are not, and what sha256sum
// says of them.
func content(number int) (tree fixtures.Tree, sums []string) {
	random := rand.New(rand.NewPCG(1, uint64(number)))
	for i := range 60 {
		size := 100 + random.IntN(2000)
		if i%10 == 0 {
			size = 200_000 + random.IntN(200_000)
		}
		raw := make([]byte, size/2)
		for j := range raw {
			raw[j] = byte(random.Uint32())
		}
		text := hex.EncodeToString(raw)
		name := fmt.Sprintf("data/%d/%02d", number, i)
		tree.File(name, 0o644, text)
		sums = append(sums, fmt.Sprintf("%x  ./%s\n", sha256.Sum256([]byte(text)), name))
	}
	return tree, sums
}
