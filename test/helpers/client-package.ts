import { execFile } from 'node:child_process'
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { temporaryFolder } from './gateway.ts'
import { ROOT } from './process.ts'

const run = promisify(execFile)

export const CLIENT = join(ROOT, 'client')

/** Runs the client's own compiler in that folder. */
export const compile = (cwd: string, ...options: readonly string[]) =>
  run(process.execPath, [join(CLIENT, 'node_modules/typescript/bin/tsc'), ...options], { cwd })

/**
 * A folder in which the packed client is installed under its name, and nothing else of this repository. The package is
 * built and packed in a copy, so that tests do not write to the sources.
 */
export const installPacked = async (t: TestContext): Promise<{ folder: string; files: readonly string[] }> => {
  const copy = join(await temporaryFolder(t), 'client')
  const names = ['src', 'package.json', 'tsconfig.json', 'tsconfig.build.json', 'README.md', 'LICENSE']
  await mkdir(copy)
  for (const name of names) await cp(join(CLIENT, name), join(copy, name), { recursive: true })
  await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  await compile(copy, '-p', 'tsconfig.build.json')
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts'], { cwd: copy })
  const [{ filename, files }] = JSON.parse(stdout)
  const folder = await temporaryFolder(t)
  const installed = join(folder, 'node_modules/@domain-task-gateway/client')
  await mkdir(installed, { recursive: true })
  await run('tar', ['-xzf', join(copy, filename), '-C', installed, '--strip-components=1'])
  for (const name of ['openapi-fetch', 'openapi-typescript-helpers']) {
    await symlink(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name))
  }
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  return { folder, files: files.map(({ path }: { path: string }) => path) }
}
