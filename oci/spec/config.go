package spec

// This file holds what a client asked for, in the runtime's own words: plain
// data without behaviour, copied from CRI messages by package server/cri, kept
// in pod records, and turned into an OCI spec by Build. Zero values mean "not
// set". Field names follow k8s.io/cri-api/pkg/apis/runtime/v1/api.proto, which
// is the reference for what each one means.

// Pod is a sandbox as the client described it.
type Pod struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	Attempt   uint32 `json:"attempt,omitempty"`

	Hostname string        `json:"hostname,omitempty"`
	LogDir   string        `json:"logDir,omitempty"`
	DNS      *DNS          `json:"dns,omitempty"`
	Ports    []PortMapping `json:"ports,omitempty"`

	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	// CgroupParent is the kubelet's pod cgroup; "" lets the runtime make one.
	CgroupParent string            `json:"cgroupParent,omitempty"`
	Namespaces   Namespaces        `json:"namespaces"`
	Security     Security          `json:"security"`
	Sysctls      map[string]string `json:"sysctls,omitempty"`
	Overhead     *Resources        `json:"overhead,omitempty"`
	Resources    *Resources        `json:"resources,omitempty"`
}

// DNS becomes the pod's resolv.conf; nil keeps the host's.
type DNS struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// PortMapping asks for a host port. Protocol is "tcp", "udp" or "sctp".
type PortMapping struct {
	Protocol      string `json:"protocol"`
	ContainerPort int32  `json:"containerPort"`
	HostPort      int32  `json:"hostPort,omitempty"`
	HostIP        string `json:"hostIP,omitempty"`
}

// NamespaceMode says whose namespace is used.
type NamespaceMode string

// The modes of the CRI's NamespaceMode. The zero value is not a mode.
const (
	NamespacePod       NamespaceMode = "pod"
	NamespaceContainer NamespaceMode = "container"
	NamespaceNode      NamespaceMode = "node"
	NamespaceTarget    NamespaceMode = "target"
)

// Namespaces is the CRI's NamespaceOption.
type Namespaces struct {
	Network NamespaceMode `json:"network"`
	PID     NamespaceMode `json:"pid"`
	IPC     NamespaceMode `json:"ipc"`
	// TargetID is the container whose PID namespace NamespaceTarget means.
	TargetID string `json:"targetID,omitempty"`
	// User is nil for the node's user namespace.
	User *UserNamespace `json:"user,omitempty"`
}

// UserNamespace maps container ids to host ids.
type UserNamespace struct {
	UIDs []IDMapping `json:"uids"`
	GIDs []IDMapping `json:"gids"`
}

// IDMapping maps Length ids starting at Container to ids starting at Host.
type IDMapping struct {
	Container uint32 `json:"container"`
	Host      uint32 `json:"host"`
	Length    uint32 `json:"length"`
}

// Security is the security context of a pod or a container. A pod uses only
// the fields that the CRI's LinuxSandboxSecurityContext has.
type Security struct {
	Privileged     bool          `json:"privileged,omitempty"`
	RunAsUser      *int64        `json:"runAsUser,omitempty"`
	RunAsGroup     *int64        `json:"runAsGroup,omitempty"`
	RunAsUsername  string        `json:"runAsUsername,omitempty"`
	Groups         []int64       `json:"groups,omitempty"`
	GroupsPolicy   GroupsPolicy  `json:"groupsPolicy,omitempty"`
	ReadonlyRootfs bool          `json:"readonlyRootfs,omitempty"`
	NoNewPrivs     bool          `json:"noNewPrivs,omitempty"`
	Capabilities   *Capabilities `json:"capabilities,omitempty"`
	MaskedPaths    []string      `json:"maskedPaths,omitempty"`
	ReadonlyPaths  []string      `json:"readonlyPaths,omitempty"`
	Seccomp        *Profile      `json:"seccomp,omitempty"`
	AppArmor       *Profile      `json:"apparmor,omitempty"`
	SELinux        *SELinux      `json:"selinux,omitempty"`
}

// GroupsPolicy says whether the image's groups are added (KEP-3619).
type GroupsPolicy string

// The zero value means GroupsMerge.
const (
	GroupsMerge  GroupsPolicy = "Merge"
	GroupsStrict GroupsPolicy = "Strict"
)

// Capabilities are names with or without the CAP_ prefix; "ALL" stands for all.
type Capabilities struct {
	Add        []string `json:"add,omitempty"`
	Drop       []string `json:"drop,omitempty"`
	AddAmbient []string `json:"addAmbient,omitempty"`
}

// ProfileKind is the type of a seccomp or AppArmor profile.
type ProfileKind string

// The kinds of the CRI's SecurityProfile.
const (
	ProfileRuntimeDefault ProfileKind = "RuntimeDefault"
	ProfileUnconfined     ProfileKind = "Unconfined"
	ProfileLocalhost      ProfileKind = "Localhost"
)

// Profile names a seccomp or AppArmor profile. Localhost is the absolute path
// (seccomp) or loaded name (AppArmor) and is set only for ProfileLocalhost.
type Profile struct {
	Kind      ProfileKind `json:"kind"`
	Localhost string      `json:"localhost,omitempty"`
}

// SELinux is the label to build.
type SELinux struct {
	User  string `json:"user,omitempty"`
	Role  string `json:"role,omitempty"`
	Type  string `json:"type,omitempty"`
	Level string `json:"level,omitempty"`
}

// Container is a container as the client described it.
type Container struct {
	Name    string `json:"name"`
	Attempt uint32 `json:"attempt,omitempty"`

	// Image is the reference to run (normally an image id), UserImage what
	// the user wrote in the pod spec.
	Image            string            `json:"image"`
	UserImage        string            `json:"userImage,omitempty"`
	ImageAnnotations map[string]string `json:"imageAnnotations,omitempty"`

	Command    []string `json:"command,omitempty"`
	Args       []string `json:"args,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Env        []Env    `json:"env,omitempty"`

	Mounts     []Mount  `json:"mounts,omitempty"`
	Devices    []Device `json:"devices,omitempty"`
	CDIDevices []string `json:"cdiDevices,omitempty"`

	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	// LogPath is relative to the pod's LogDir; "" writes no log.
	LogPath   string `json:"logPath,omitempty"`
	Stdin     bool   `json:"stdin,omitempty"`
	StdinOnce bool   `json:"stdinOnce,omitempty"`
	TTY       bool   `json:"tty,omitempty"`

	Namespaces Namespaces `json:"namespaces"`
	Security   Security   `json:"security"`
	Resources  *Resources `json:"resources,omitempty"`
	// StopSignal is a name such as "SIGUSR1"; "" takes the image's, then SIGTERM.
	StopSignal string `json:"stopSignal,omitempty"`
}

// Env is one variable. Values are bytes in the CRI and any bytes but NUL here.
type Env struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Propagation of a mount between host and container.
type Propagation string

// The zero value means PropagationPrivate.
const (
	PropagationPrivate         Propagation = "private"
	PropagationHostToContainer Propagation = "rslave"
	PropagationBidirectional   Propagation = "rshared"
)

// Mount is a volume. Exactly one of HostPath and Image is set.
type Mount struct {
	ContainerPath     string      `json:"containerPath"`
	HostPath          string      `json:"hostPath,omitempty"`
	Image             string      `json:"image,omitempty"`
	ImageUserRef      string      `json:"imageUserRef,omitempty"`
	ImageSubPath      string      `json:"imageSubPath,omitempty"`
	ReadOnly          bool        `json:"readOnly,omitempty"`
	RecursiveReadOnly bool        `json:"recursiveReadOnly,omitempty"`
	SELinuxRelabel    bool        `json:"selinuxRelabel,omitempty"`
	Propagation       Propagation `json:"propagation,omitempty"`
	UIDs              []IDMapping `json:"uids,omitempty"`
	GIDs              []IDMapping `json:"gids,omitempty"`
	Options           []string    `json:"options,omitempty"`
}

// Device is a host device (or a directory of devices) to add. Permissions is
// a subset of "rwm".
type Device struct {
	ContainerPath string `json:"containerPath"`
	HostPath      string `json:"hostPath"`
	Permissions   string `json:"permissions"`
}

// Resources are limits in the CRI's units: microseconds, shares, bytes. Zero
// means "no limit asked for"; CPUQuota and MemorySwap may be -1 for unlimited.
type Resources struct {
	CPUPeriod   int64             `json:"cpuPeriod,omitempty"`
	CPUQuota    int64             `json:"cpuQuota,omitempty"`
	CPUShares   int64             `json:"cpuShares,omitempty"`
	CPUSetCPUs  string            `json:"cpusetCPUs,omitempty"`
	CPUSetMems  string            `json:"cpusetMems,omitempty"`
	Memory      int64             `json:"memory,omitempty"`
	MemorySwap  int64             `json:"memorySwap,omitempty"`
	OOMScoreAdj int64             `json:"oomScoreAdj,omitempty"`
	Hugepages   []Hugepage        `json:"hugepages,omitempty"`
	Unified     map[string]string `json:"unified,omitempty"`
}

// Hugepage limits one page size, written as "2MB" or "1GB".
type Hugepage struct {
	PageSize string `json:"pageSize"`
	Limit    uint64 `json:"limit"`
}
