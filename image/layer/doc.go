// Package layer turns the blob of one image layer into one overlay lower
// directory: it inflates, verifies both digests and extracts, all at once and
// in bounded memory, and never writes outside of the directory that it is
// given. It knows neither registries nor the store: where blobs come from and
// what becomes of the directory is the caller's business.
//
// The input is hostile. What leaves the layer's root is refused, what only the
// host may decide (trusted.* attributes, SELinux labels) is dropped, and every
// count has a limit.
package layer
