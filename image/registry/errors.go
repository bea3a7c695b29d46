package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"syscall"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"go.podman.io/image/v5/docker"
)

// Errors that callers act upon.
var (
	// ErrNotFound: the registry has no such repository, tag or blob, or no
	// image for this platform.
	ErrNotFound = errors.New("not found at the registry")
	// ErrDenied: the registry refused the credentials, or the policy the image.
	ErrDenied = errors.New("access denied")
	// ErrUntrusted is the ErrDenied of the policy.
	ErrUntrusted = fmt.Errorf("%w by the signature policy", ErrDenied)
	// ErrUnavailable: the registry does not answer as it should; a retry may help.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrInvalid: a name, manifest or config is malformed, or does not match
	// its digest.
	ErrInvalid = errors.New("invalid image")
)

// classify gives err, which came out of the transport, its sentinel. What is
// neither an answer of the registry nor a failure to get one becomes fallback.
// The text loses whatever could hold a secret.
func classify(ctx context.Context, err, fallback error, secrets []string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	class := answerClass(err)
	if class == nil && isNetwork(err) {
		class = ErrUnavailable
	}
	if class == nil {
		class = fallback
	}
	return fmt.Errorf("%w: %s", class, redact(err.Error(), secrets))
}

// answerClass is the sentinel for what the registry answered, or nil.
func answerClass(err error) error {
	var unauthorized docker.ErrUnauthorizedForCredentials
	if errors.As(err, &unauthorized) {
		return ErrDenied
	}
	if errors.Is(err, docker.ErrTooManyRequests) {
		return ErrUnavailable
	}
	var coder errcode.ErrorCoder
	if errors.As(err, &coder) {
		switch coder.ErrorCode() {
		case errcode.ErrorCodeUnauthorized, errcode.ErrorCodeDenied:
			return ErrDenied
		case v2.ErrorCodeManifestUnknown, v2.ErrorCodeNameUnknown, v2.ErrorCodeBlobUnknown:
			return ErrNotFound
		case v2.ErrorCodeNameInvalid, v2.ErrorCodeTagInvalid, v2.ErrorCodeDigestInvalid:
			return ErrInvalid
		}
		return ErrUnavailable
	}
	switch code := statusCode(err); {
	case code == 0:
		return nil
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return ErrDenied
	case code == http.StatusNotFound:
		return ErrNotFound
	}
	return ErrUnavailable
}

// statusCode finds the HTTP status that err carries, or 0. One of the two types
// of the transport that carry it is not exported, so it is found by its field.
func statusCode(err error) int {
	for ; err != nil; err = errors.Unwrap(err) {
		v := reflect.Indirect(reflect.ValueOf(err))
		if v.Kind() != reflect.Struct {
			continue
		}
		if f := v.FieldByName("StatusCode"); f.IsValid() && f.CanInt() {
			return int(f.Int())
		}
	}
	return 0
}

func isNetwork(err error) bool {
	var ne net.Error
	var ue *url.Error
	var se syscall.Errno
	return errors.As(err, &ne) || errors.As(err, &ue) || errors.As(err, &se) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled)
}

var (
	urlQuery = regexp.MustCompile(`(https?://[^\s"'?]+)\?[^\s"']*`)
	urlUser  = regexp.MustCompile(`://[^\s/@"']+@`)
)

// redact removes query strings of addresses, where registries put signatures
// and tokens, user names and passwords in addresses, and the given secrets.
func redact(text string, secrets []string) string {
	text = urlUser.ReplaceAllString(urlQuery.ReplaceAllString(text, "$1"), "://")
	for _, s := range secrets {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, "[redacted]")
		}
	}
	return strings.Join(strings.Fields(text), " ")
}
