package seccomp

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// libseccomp's API levels (seccomp_api_get(3)): what the kernel can do.
const (
	apiNone         = 1
	apiThreadSync   = 2
	apiLog          = 3
	apiSpecAllow    = 4
	apiNotify       = 5
	apiNotifySync   = 6
	apiWaitKillable = 7
)

// levels tells by which flags of seccomp(2) the kernel shows a level.
var levels = [...]struct {
	level uint
	flags uintptr
}{
	{apiWaitKillable, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
	{apiNotifySync, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH},
	{apiNotify, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER},
	{apiSpecAllow, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	{apiLog, unix.SECCOMP_FILTER_FLAG_LOG},
	{apiThreadSync, unix.SECCOMP_FILTER_FLAG_TSYNC},
}

// apiLevel asks the kernel once. A filter at address 0 is refused with EFAULT,
// but flags that it does not know are refused before that.
var apiLevel = sync.OnceValue(func() uint {
	for _, l := range levels {
		if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, l.flags, 0); errno == unix.EFAULT {
			return l.level
		}
	}
	return apiNone
})

// GetAPI returns libseccomp's API level of the kernel.
func GetAPI() (uint, error) { return apiLevel(), nil }

// GetLibraryVersion returns the version of libseccomp whose interface this is.
func GetLibraryVersion() (major, minor, micro uint) { return 2, 6, 0 }

// VersionError says that the kernel is too old for an operation.
type VersionError struct {
	what     string
	level    uint
	required uint
}

// Error names the operation and the API levels.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s needs a kernel of libseccomp's API level %d, and this one has %d", e.what, e.required, e.level)
}

func needAPI(what string, level uint) error {
	if have := apiLevel(); have < level {
		return &VersionError{what, have, level}
	}
	return nil
}
