import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { bundleGateway } from './bundle.ts'
import { type PackedClient, packClient } from './client.ts'
import { readVersion, staleFiles } from './version.ts'

const ROOT = resolve(import.meta.dirname, '..')

export interface Release {
  readonly version: string
  readonly client: PackedClient
  /** Conditions of a release that the checkout does not meet; always empty unless it is a dry run. */
  readonly unmet: readonly string[]
}

/**
 * Writes the files that a release publishes beside the image to that folder, and publishes nothing: the packed client,
 * the bills of materials, the notices, the notes of CHANGELOG.md, and SHA256SUMS of all of them.
 * @throws Error if a file states another version than package.json, or, unless it is a dry run, if HEAD is not a clean
 * commit with the tag and the notes of that version
 */
export const writeRelease = async (folder: string, isDryRun: boolean): Promise<Release> => {
  const stale = staleFiles()
  if (stale.length > 0) throw new Error(`The version is not that of package.json (npm version): ${stale.join(', ')}`)
  const version = readVersion()
  const changes = await readFile(join(ROOT, 'CHANGELOG.md'), 'utf8')
  const unmet = [...unmetByGit(version), ...(notesOf(changes, version) === undefined ? [`no notes of ${version}`] : [])]
  if (!isDryRun && unmet.length > 0) throw new Error(`Not ready for a release: ${unmet.join(', ')}`)

  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const bundle = join(folder, 'bundle')
  await bundleGateway(bundle)
  await cp(join(bundle, 'sbom.cdx.json'), join(folder, 'gateway.sbom.cdx.json'))
  await cp(join(bundle, 'THIRD-PARTY-NOTICES.txt'), join(folder, 'THIRD-PARTY-NOTICES.txt'))
  await rm(bundle, { recursive: true })
  const client = await packClient(folder)
  await writeFile(join(folder, 'NOTES.md'), notesOf(changes, version) ?? notesOf(changes, 'Unreleased') ?? '')
  await writeFile(join(folder, 'SHA256SUMS'), await checksums(folder))
  return { version, client, unmet }
}

/** The section of CHANGELOG.md of that version, without its heading: `## 1.2.3 - 2026-01-31`. */
const notesOf = (changes: string, version: string): string | undefined => {
  const sections = changes.split(/^## /m).slice(1)
  const found = sections.find((section) => section.split(/\s/, 1)[0] === version)
  return found?.replace(/^.*\n+/, '')
}

const unmetByGit = (version: string): readonly string[] => {
  const git = (...args: readonly string[]): string => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' })
  try {
    const isTagged = git('tag', '--points-at', 'HEAD').split('\n').includes(`v${version}`)
    const isClean = git('status', '--porcelain') === ''
    return [...(isTagged ? [] : [`no tag v${version} at HEAD`]), ...(isClean ? [] : ['uncommitted changes'])]
  } catch {
    return ['no git checkout']
  }
}

/** As `sha256sum --check` reads them. */
const checksums = async (folder: string): Promise<string> => {
  const names = (await readdir(folder)).sort()
  const lines = names.map(async (name) => {
    const digest = createHash('sha256').update(await readFile(join(folder, name)))
    return `${digest.digest('hex')}  ${name}\n`
  })
  return (await Promise.all(lines)).join('')
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { 'dry-run': { type: 'boolean' } } })
  const folder = resolve(positionals[0] ?? 'dist/release')
  const { version, unmet } = await writeRelease(folder, values['dry-run'] === true)
  console.log(`The files of ${version} are in ${folder}.`)
  for (const condition of unmet) console.log(`A release would fail: ${condition}.`)
}
