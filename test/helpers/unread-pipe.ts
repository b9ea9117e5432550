import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { temporaryFolder } from './gateway.ts'

const CHUNK = Buffer.alloc(65_536)

export interface UnreadPipe {
  /** The write end, in blocking mode. */
  readonly fd: number
  /** Writes filler until the pipe is full. */
  fill(): void
  /** Reads the content of the pipe without waiting. */
  read(): string
  /** Closes the read end. */
  closeReader(): void
}

const repeatUntilBlocked = (act: () => number): void => {
  try {
    while (act() > 0);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error
  }
}

/** A pipe without a reader other than the test. */
export const createUnreadPipe = async (t: TestContext): Promise<UnreadPipe> => {
  const path = join(await temporaryFolder(t), 'pipe')
  spawnSync('mkfifo', [path])
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const fd = openSync(path, constants.O_WRONLY)
  const filler = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
  const open = new Set([reader, fd, filler])
  t.after(() => {
    for (const each of open) closeSync(each)
  })
  return {
    fd,
    // The last writes are single bytes: a pipe counts pages, and the last page has to be full too.
    fill: () => {
      for (const size of [4096, 1]) repeatUntilBlocked(() => writeSync(filler, Buffer.alloc(size, '.')))
    },
    read: () => {
      let text = ''
      repeatUntilBlocked(() => {
        const length = readSync(reader, CHUNK)
        text += CHUNK.toString('utf8', 0, length)
        return length
      })
      return text
    },
    closeReader: () => {
      closeSync(reader)
      open.delete(reader)
    },
  }
}
