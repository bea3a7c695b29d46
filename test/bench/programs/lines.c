// Writes lines of 100 bytes to standard output, 64 KiB at a time, as many as the
// argument says.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LENGTH = 100, LINES = 655 };

int main(int argc, char **argv) {
	static char block[LENGTH * LINES];
	memset(block, 'x', sizeof block);
	for (int i = 1; i <= LINES; i++)
		block[i * LENGTH - 1] = '\n';
	long left = argc > 1 ? atol(argv[1]) : 0;
	while (left > 0) {
		long lines = left < LINES ? left : LINES;
		for (long done = 0; done < lines * LENGTH;) {
			ssize_t n = write(1, block + done, lines * LENGTH - done);
			if (n < 0)
				return 1;
			done += n;
		}
		left -= lines;
	}
	return 0;
}
