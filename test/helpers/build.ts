import { rmSync } from 'node:fs'
import { cp, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bundleGateway } from '../../build/bundle.ts'
import { ROOT } from './process.ts'

let built: Promise<string> | undefined

/** Builds the gateway once per test file into a temporary folder without packages. Returns the path of `server.js`. */
export const buildGateway = (): Promise<string> => {
  built ??= build()
  return built
}

const build = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-build-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  await bundleGateway(join(folder, 'dist'))
  await cp(join(ROOT, 'package.json'), join(folder, 'package.json'))
  return join(folder, 'dist/server.js')
}
