// Package test holds the tests of the whole: of the source's shape in this
// directory, of the running system in the directories below.
package test
