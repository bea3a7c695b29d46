// Package registry fetches images: it resolves names (registries.conf, mirrors,
// short names), asks policy.json, chooses the manifest for this platform,
// checks digests, and hands out the config and the blobs of the layers. It
// writes nothing to disk and knows nothing of the store.
//
// Everything on the wire is go.podman.io/image; this package decides the order,
// the limits, when a transfer is stalled, and what an error means.
package registry
