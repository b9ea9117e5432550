import { execFile } from 'node:child_process'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { packClient } from '../../build/client.ts'
import { temporaryFolder } from './gateway.ts'
import { ROOT } from './process.ts'

const run = promisify(execFile)

export const CLIENT = join(ROOT, 'client')

/** Runs the client's own compiler in that folder. */
export const compile = (cwd: string, ...options: readonly string[]) =>
  run(process.execPath, [join(CLIENT, 'node_modules/typescript/bin/tsc'), ...options], { cwd })

/** A folder in which the packed client is installed under its name, and nothing else of this repository. */
export const installPacked = async (t: TestContext): Promise<string> => {
  const packed = await temporaryFolder(t)
  const { archive } = await packClient(packed)
  return installArchive(t, join(packed, archive))
}

/** The same, with a client that is packed already. */
export const installArchive = async (t: TestContext, archive: string): Promise<string> => {
  const folder = await temporaryFolder(t)
  const installed = join(folder, 'node_modules/@domain-task-gateway/client')
  await mkdir(installed, { recursive: true })
  await run('tar', ['-xzf', archive, '-C', installed, '--strip-components=1'])
  for (const name of ['openapi-fetch', 'openapi-typescript-helpers']) {
    await symlink(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name))
  }
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  return folder
}
