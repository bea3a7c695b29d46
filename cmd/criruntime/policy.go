package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/spec"
)

// policy translates what the configuration says of all containers. Errors name
// the key.
func policy(c *conf.Containers) (spec.Policy, error) {
	p := spec.Policy{
		Env:             c.Env,
		PidsLimit:       int64(c.PidsLimit),
		DeviceOwnership: c.DeviceOwnershipFromSecurityContext,
		BareHandlers:    c.PrivilegedWithoutHostDevices,
		CgroupWriters:   c.CgroupWritable,
		LogLine:         c.MaxLogLine,
		CDIDirs:         c.CDISpecDirs,
		HooksDirs:       c.HooksDirs,
		ExecAffinity:    spec.ExecAffinity(c.ExecCPUAffinity),
	}
	var err error
	if p.Capabilities, err = spec.CheckCapabilities(c.Capabilities); err != nil {
		return p, fmt.Errorf("containers.capabilities: %w", err)
	}
	if p.Sysctls, err = spec.ParseSysctls(c.Sysctls); err != nil {
		return p, fmt.Errorf("containers.sysctls: %w", err)
	}
	if p.Rlimits, err = rlimits(c.Ulimits); err != nil {
		return p, fmt.Errorf("containers.ulimits: %w", err)
	}
	if p.Localtime, err = host.Localtime(c.Timezone); err != nil {
		return p, fmt.Errorf("containers.timezone: %w", err)
	}
	if p.Mounts, err = mounts(c.Mounts); err != nil {
		return p, fmt.Errorf("containers.mounts: %w", err)
	}
	if p.Seccomp, err = seccompFile(c.SeccompProfile); err != nil {
		return p, fmt.Errorf("containers.seccomp_profile: %w", err)
	}
	if p.PrivilegedSeccomp, err = seccompFile(c.PrivilegedSeccompProfile); err != nil {
		return p, fmt.Errorf("containers.privileged_seccomp_profile: %w", err)
	}
	return p, nil
}

// mounts refuses what no container could be started with.
func mounts(texts []string) ([]specs.Mount, error) {
	var all []specs.Mount
	for _, text := range texts {
		m, err := spec.ParseMount(text)
		if err == nil {
			_, err = os.Stat(m.Source)
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other specs.Mount) bool { return other.Destination == m.Destination }) {
			return nil, fmt.Errorf("%s is the destination of two", m.Destination)
		}
		all = append(all, m)
	}
	return all, nil
}

// seccompFile reads a profile, and refuses what no container could be started
// with.
func seccompFile(path string) (spec.SeccompFile, error) {
	f := spec.SeccompFile{Name: path}
	if path == "" {
		return f, nil
	}
	var err error
	if f.Body, err = host.ReadSeccomp(&spec.Profile{Kind: spec.ProfileLocalhost, Localhost: path}); err == nil {
		_, err = spec.ParseSeccomp(path, f.Body, &specs.LinuxCapabilities{})
	}
	return f, err
}

// rlimits refuses what no container could be started with.
func rlimits(ulimits []string) ([]specs.POSIXRlimit, error) {
	var all []specs.POSIXRlimit
	for _, text := range ulimits {
		l, err := spec.ParseRlimit(text)
		if err == nil {
			err = host.CheckRlimit(l)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}
