import { execFile } from 'node:child_process'
import { cp, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { temporaryFolder } from './gateway.ts'
import { ROOT } from './process.ts'

const run = promisify(execFile)

/** Compiles the gateway into a temporary folder, and returns the path of its entry file. */
export const buildGateway = async (t: TestContext): Promise<string> => {
  const folder = await temporaryFolder(t)
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  await run(process.execPath, [tsc, '-p', join(ROOT, 'tsconfig.build.json'), '--outDir', join(folder, 'dist')])
  await cp(join(ROOT, 'package.json'), join(folder, 'package.json'))
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  return join(folder, 'dist/server.js')
}
