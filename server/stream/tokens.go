package stream

import (
	"crypto/rand"
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	tokenLife = time.Minute
	maxTokens = 1000
)

// ErrBusy: too many sessions wait for their clients.
var ErrBusy = errors.New("too many sessions wait to be opened")

// tokens remember the sessions that clients may open: each once, within its
// life.
type tokens struct {
	now func() time.Time

	mu      sync.Mutex
	pending map[string]pending
}

type pending struct {
	serve   http.HandlerFunc
	expires time.Time
}

func newTokens() *tokens {
	return &tokens{now: time.Now, pending: map[string]pending{}}
}

// add returns a token that cannot be guessed, or ErrBusy.
func (t *tokens) add(serve http.HandlerFunc) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.pending) == maxTokens {
		for token, p := range t.pending {
			if now.After(p.expires) {
				delete(t.pending, token)
			}
		}
	}
	if len(t.pending) == maxTokens {
		return "", ErrBusy
	}
	token := rand.Text()
	t.pending[token] = pending{serve: serve, expires: now.Add(tokenLife)}
	return token, nil
}

// take uses a token up; it returns nil for one that is unknown or too old.
func (t *tokens) take(token string) http.HandlerFunc {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.pending[token]
	delete(t.pending, token)
	if !ok || t.now().After(p.expires) {
		return nil
	}
	return p.serve
}
