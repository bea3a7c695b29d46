//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

// history reads every version of a pod that etcd keeps, the oldest first, past
// the apiserver.
func history(ctx context.Context, namespace, name string) ([]*v1.Pod, error) {
	key := []byte("/registry/pods/" + namespace + "/" + name)
	last, err := etcdGet(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	pods := []*v1.Pod{}
	for at := last; ; {
		p, err := decode(at.Value)
		if err != nil {
			return nil, err
		}
		pods = append([]*v1.Pod{p}, pods...)
		if at.ModRevision == at.CreateRevision {
			return pods, nil
		}
		if at, err = etcdGet(ctx, key, at.ModRevision-1); err != nil {
			return nil, err
		}
	}
}

// entry is a key's value in etcd at some revision.
type entry struct {
	CreateRevision int64 `json:"create_revision,string"`
	ModRevision    int64 `json:"mod_revision,string"`
	Value          []byte
}

// etcdGet asks etcd's JSON gateway; revision 0 is now.
func etcdGet(ctx context.Context, key []byte, revision int64) (*entry, error) {
	query, err := json.Marshal(map[string]any{"key": key, "revision": revision})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, node.Etcd()+"/v3/kv/range", bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var answer struct{ Kvs []entry }
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Kvs) != 1 {
		return nil, fmt.Errorf("etcd has no %s at revision %d: %v: %s", key, revision, err, body)
	}
	return &answer.Kvs[0], nil
}

// decode reads the form in which the apiserver stores a pod.
func decode(data []byte) (*v1.Pod, error) {
	object, _, err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	p, ok := object.(*v1.Pod)
	if !ok {
		return nil, fmt.Errorf("not a pod but %T", object)
	}
	return p, nil
}
