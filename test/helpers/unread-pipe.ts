import { spawnSync } from 'node:child_process'
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { temporaryFolder } from './gateway.ts'

const CHUNK = Buffer.alloc(65_536)

export interface UnreadPipe {
  /** The end to write to, as a process gets it: writes wait for the reader unless the process changes that. */
  readonly fd: number
  /** Puts filler into the pipe until it takes no more. */
  fill(): void
  /** Reads all that is in the pipe now, without waiting. */
  read(): string
  /** Closes the reader's end. */
  closeReader(): void
}

const repeatUntilBlocked = (act: () => number): void => {
  try {
    while (act() > 0);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error
  }
}

/** A pipe that is read only when the test reads it. */
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
    // Small pieces at the end: a pipe counts pages, and the last page has to be full too.
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
