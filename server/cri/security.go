//lint:file-ignore SA1019 Clients may still send the deprecated fields.

package cri

import (
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
)

func (c *checker) podSecurity(field string, s *runtimeapi.LinuxSandboxSecurityContext) spec.Security {
	if s.GetRunAsGroup() != nil && s.GetRunAsUser() == nil {
		c.bad(join(field, "run_as_group"), "needs run_as_user")
	}
	return spec.Security{
		Privileged:     s.GetPrivileged(),
		RunAsUser:      c.optionalID(join(field, "run_as_user"), s.GetRunAsUser()),
		RunAsGroup:     c.optionalID(join(field, "run_as_group"), s.GetRunAsGroup()),
		Groups:         c.groups(join(field, "supplemental_groups"), s.GetSupplementalGroups()),
		GroupsPolicy:   c.groupsPolicy(join(field, "supplemental_groups_policy"), s.GetSupplementalGroupsPolicy()),
		ReadonlyRootfs: s.GetReadonlyRootfs(),
		Seccomp:        c.seccomp(field, s.GetSeccomp(), s.GetSeccompProfilePath()), //nolint:staticcheck // the API still asks for it
		AppArmor:       c.appArmor(field, s.GetApparmor(), ""),
		SELinux:        c.selinux(join(field, "selinux_options"), s.GetSelinuxOptions()),
	}
}

func (c *checker) containerSecurity(field string, s *runtimeapi.LinuxContainerSecurityContext) spec.Security {
	switch {
	case s.GetRunAsUser() != nil && s.GetRunAsUsername() != "":
		c.bad(join(field, "run_as_username"), "excludes run_as_user")
	case s.GetRunAsGroup() != nil && s.GetRunAsUser() == nil && s.GetRunAsUsername() == "":
		c.bad(join(field, "run_as_group"), "needs run_as_user or run_as_username")
	}
	if s.GetRunAsUsername() != "" && (strings.Contains(s.GetRunAsUsername(), ":") || !isWord(s.GetRunAsUsername())) {
		c.bad(join(field, "run_as_username"), "%q is not a user name", s.GetRunAsUsername())
	}
	c.absolutes(join(field, "masked_paths"), s.GetMaskedPaths())
	c.absolutes(join(field, "readonly_paths"), s.GetReadonlyPaths())
	return spec.Security{
		Privileged:     s.GetPrivileged(),
		RunAsUser:      c.optionalID(join(field, "run_as_user"), s.GetRunAsUser()),
		RunAsGroup:     c.optionalID(join(field, "run_as_group"), s.GetRunAsGroup()),
		RunAsUsername:  s.GetRunAsUsername(),
		Groups:         c.groups(join(field, "supplemental_groups"), s.GetSupplementalGroups()),
		GroupsPolicy:   c.groupsPolicy(join(field, "supplemental_groups_policy"), s.GetSupplementalGroupsPolicy()),
		ReadonlyRootfs: s.GetReadonlyRootfs(),
		NoNewPrivs:     s.GetNoNewPrivs(),
		Capabilities:   c.capabilities(join(field, "capabilities"), s.GetCapabilities()),
		MaskedPaths:    s.GetMaskedPaths(),
		ReadonlyPaths:  s.GetReadonlyPaths(),
		Seccomp:        c.seccomp(field, s.GetSeccomp(), s.GetSeccompProfilePath()), //nolint:staticcheck // the API still asks for it
		AppArmor:       c.appArmor(field, s.GetApparmor(), s.GetApparmorProfile()),  //nolint:staticcheck // the API still asks for it
		SELinux:        c.selinux(join(field, "selinux_options"), s.GetSelinuxOptions()),
	}
}

func (c *checker) optionalID(field string, v *runtimeapi.Int64Value) *int64 {
	if v == nil {
		return nil
	}
	id := v.GetValue()
	c.id(field, id)
	return &id
}

func (c *checker) groups(field string, groups []int64) []int64 {
	for i, g := range groups {
		c.id(at(field, i), g)
	}
	return groups
}

func (c *checker) groupsPolicy(field string, p runtimeapi.SupplementalGroupsPolicy) spec.GroupsPolicy {
	switch p {
	case runtimeapi.SupplementalGroupsPolicy_Merge:
		return spec.GroupsMerge
	case runtimeapi.SupplementalGroupsPolicy_Strict:
		return spec.GroupsStrict
	}
	c.bad(field, "%d is not a policy", p)
	return ""
}

func (c *checker) absolutes(field string, paths []string) {
	for i, p := range paths {
		if p == "" {
			c.bad(at(field, i), "must be set")
		}
		c.absolute(at(field, i), p)
	}
}

// capabilities checks the form of the names; which ones exist is the kernel's
// to say.
func (c *checker) capabilities(field string, caps *runtimeapi.Capability) *spec.Capabilities {
	if caps == nil {
		return nil
	}
	c.capabilityNames(join(field, "add_capabilities"), caps.GetAddCapabilities())
	c.capabilityNames(join(field, "drop_capabilities"), caps.GetDropCapabilities())
	c.capabilityNames(join(field, "add_ambient_capabilities"), caps.GetAddAmbientCapabilities())
	return &spec.Capabilities{
		Add:        caps.GetAddCapabilities(),
		Drop:       caps.GetDropCapabilities(),
		AddAmbient: caps.GetAddAmbientCapabilities(),
	}
}

func (c *checker) capabilityNames(field string, names []string) {
	foreign := func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	for i, name := range names {
		if name == "" || strings.ContainsFunc(name, foreign) {
			c.bad(at(field, i), "%q is not a capability", name)
		}
	}
}

// The deprecated notation of profiles, still sent by old clients.
const (
	oldDefault    = "runtime/default"
	oldDocker     = "docker/default"
	oldUnconfined = "unconfined"
	oldLocalhost  = "localhost/"
)

// seccomp takes the message or the deprecated path. Nil means unconfined, as the
// empty path does.
func (c *checker) seccomp(field string, p *runtimeapi.SecurityProfile, old string) *spec.Profile {
	const oldName = "seccomp_profile_path"
	profile, before := c.profile(join(field, "seccomp"), p), c.oldProfile(join(field, oldName), old)
	source := "seccomp.localhost_ref"
	if p == nil {
		profile, source = before, oldName
	}
	c.agree(join(field, oldName), "seccomp", before, profile)
	if profile != nil && profile.Kind == spec.ProfileLocalhost {
		c.absolute(join(field, source), profile.Localhost)
	}
	return profile
}

// appArmor takes the message or the deprecated string; the kubelet sends both.
// Clients write the profile's name with and without the prefix "localhost/".
func (c *checker) appArmor(field string, p *runtimeapi.SecurityProfile, old string) *spec.Profile {
	const oldName = "apparmor_profile"
	before := c.oldProfile(join(field, oldName), old)
	if p == nil {
		return before
	}
	profile := c.profile(join(field, "apparmor"), p)
	profile.Localhost = strings.TrimPrefix(profile.Localhost, oldLocalhost)
	c.agree(join(field, oldName), "apparmor", before, profile)
	return profile
}

// agree refuses a deprecated field that says something else than the one that has
// taken its place.
func (c *checker) agree(field, successor string, old, profile *spec.Profile) {
	if old != nil && *old != *profile {
		c.bad(field, "contradicts %s", successor)
	}
}

func (c *checker) profile(field string, p *runtimeapi.SecurityProfile) *spec.Profile {
	if p == nil {
		return nil
	}
	profile := &spec.Profile{Localhost: p.GetLocalhostRef()}
	switch p.GetProfileType() {
	case runtimeapi.SecurityProfile_RuntimeDefault:
		profile.Kind = spec.ProfileRuntimeDefault
	case runtimeapi.SecurityProfile_Unconfined:
		profile.Kind = spec.ProfileUnconfined
	case runtimeapi.SecurityProfile_Localhost:
		profile.Kind = spec.ProfileLocalhost
	default:
		c.bad(join(field, "profile_type"), "%d is not a profile type", p.GetProfileType())
	}
	if (profile.Kind == spec.ProfileLocalhost) != (profile.Localhost != "") {
		c.bad(join(field, "localhost_ref"), "must be set for the type Localhost, and only then")
	}
	return profile
}

func (c *checker) oldProfile(field, old string) *spec.Profile {
	ref, isLocalhost := strings.CutPrefix(old, oldLocalhost)
	switch {
	case old == "":
		return nil
	case old == oldDefault || old == oldDocker:
		return &spec.Profile{Kind: spec.ProfileRuntimeDefault}
	case old == oldUnconfined:
		return &spec.Profile{Kind: spec.ProfileUnconfined}
	case isLocalhost && ref != "":
		return &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: ref}
	}
	c.bad(field, "%q is not a profile", old)
	return nil
}

func (c *checker) selinux(field string, o *runtimeapi.SELinuxOption) *spec.SELinux {
	if o == nil {
		return nil
	}
	part := func(name, value, separators string) string {
		if !isWord(value) || strings.ContainsAny(value, separators) {
			c.bad(join(field, name), "%q is not part of a label", value)
		}
		return value
	}
	return &spec.SELinux{
		User:  part("user", o.GetUser(), ":"),
		Role:  part("role", o.GetRole(), ":"),
		Type:  part("type", o.GetType(), ":"),
		Level: part("level", o.GetLevel(), ""),
	}
}
