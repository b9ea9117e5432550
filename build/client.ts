import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { billOfMaterials, dependenciesOf, readPackage } from './notices.ts'

const run = promisify(execFile)
const ROOT = resolve(import.meta.dirname, '..')
const CLIENT = join(ROOT, 'client')
const SOURCES = ['src', 'package.json', 'tsconfig.json', 'tsconfig.build.json', 'README.md', 'LICENSE']

export interface PackedClient {
  /** Name of the archive in the folder. */
  readonly archive: string
  /** Paths of the files in the archive. */
  readonly files: readonly string[]
}

/**
 * Compiles and packs the client into that folder, with its bill of materials beside the archive. The compiler works on
 * a copy, so that no earlier output and no other file of the checkout gets into the archive.
 */
export const packClient = async (folder: string): Promise<PackedClient> => {
  const copy = await mkdtemp(join(tmpdir(), 'client-'))
  try {
    await mkdir(folder, { recursive: true })
    for (const name of SOURCES) await cp(join(CLIENT, name), join(copy, name), { recursive: true })
    await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
    const compiler = join(CLIENT, 'node_modules/typescript/bin/tsc')
    await run(process.execPath, [compiler, '-p', 'tsconfig.build.json'], { cwd: copy })
    const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
      cwd: copy,
    })
    const [{ filename, files }] = JSON.parse(stdout)
    await writeFile(join(folder, 'client.sbom.cdx.json'), await billOfClient())
    return { archive: filename, files: files.map(({ path }: { path: string }) => path) }
  } finally {
    await rm(copy, { recursive: true, force: true })
  }
}

const billOfClient = async (): Promise<string> => {
  const { name, version, license } = JSON.parse(await readFile(join(CLIENT, 'package.json'), 'utf8'))
  const packages = dependenciesOf(ROOT, 'client').map((path) => readPackage(ROOT, path))
  return billOfMaterials(ROOT, { type: 'library', name, version, license }, packages)
}
