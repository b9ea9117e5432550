import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A package in the bundle. */
export interface Package {
  readonly path: string
  readonly name: string
  readonly version: string
  /** Identifier of SPDX. */
  readonly licence: string
  readonly source: string
  /** Texts of its licence and notices. */
  readonly texts: readonly string[]
}

const TEXT_FILES = /^(licen[cs]e|copying|notice)|^swagger-ui-bundle\.js\.LICENSE/i
const README_SECTION = /^#+ *licen[cs]e[\s\S]*/im

/** @throws Error where the package states no licence, so that no build contains such a package */
export const readPackage = (root: string, path: string): Package => {
  const folder = join(root, path)
  const read = (name: string): string => readFileSync(join(folder, name), 'utf8').trim()
  const { name, version, license, repository, homepage } = JSON.parse(read('package.json'))
  if (typeof license !== 'string') throw new Error(`${name} states no licence`)
  const files = readdirSync(folder)
  const texts = files.filter((file) => TEXT_FILES.test(file)).map(read)
  const sections = files
    .filter((file) => /^readme/i.test(file))
    .flatMap((file) => README_SECTION.exec(read(file)) ?? [])
  const source = String(repository?.url ?? repository ?? homepage ?? '')
  return { path, name, version, licence: license, source, texts: texts.length > 0 ? texts : sections }
}

const RULE = '-'.repeat(80)

/** Each package with its licence, as its licence requires of copies. */
export const noticesOf = (packages: readonly Package[]): string =>
  `The gateway contains these packages.\n\n${packages
    .map(({ name, version, licence, source, texts }) =>
      [RULE, `${name} ${version} (${licence}) ${source}`, RULE, ...texts.map((text) => `\n${text}\n`)].join('\n'),
    )
    .join('\n')}`

/** The subject of a bill of materials. */
export interface Subject {
  readonly type: 'application' | 'library'
  readonly name: string
  readonly version: string
  readonly license: string
}

/** CycloneDX 1.5, with the hash of each package from the lock file. The same packages give the same document. */
export const billOfMaterials = (root: string, subject: Subject, packages: readonly Package[]): string => {
  const locked = readLock(root)
  const { type, name, version, license } = subject
  const component = { type, 'bom-ref': `${name}@${version}`, name, version, licenses: [{ expression: license }] }
  const bill = {
    ...{ bomFormat: 'CycloneDX', specVersion: '1.5', version: 1 },
    metadata: { component },
    components: packages.map((each) => componentOf(each, String(locked[each.path]?.integrity ?? ''))),
  }
  return `${JSON.stringify(bill, null, 2)}\n`
}

/** The packages of the lock file, by path. */
const readLock = (root: string) => JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages

/** The paths of all packages that a workspace depends on at run time, sorted. */
export const dependenciesOf = (root: string, workspace: string): readonly string[] => {
  const locked = readLock(root)
  const found = new Set<string>()
  const visit = (from: string): void => {
    for (const name of Object.keys(locked[from].dependencies ?? {})) {
      const path = [`${from}/node_modules/${name}`, `node_modules/${name}`].find((each) => each in locked)
      if (path === undefined) throw new Error(`${name} is not locked`)
      if (found.has(path)) continue
      found.add(path)
      visit(path)
    }
  }
  visit(workspace)
  return [...found].sort()
}

const componentOf = ({ path, name, version, licence }: Package, integrity: string) => ({
  type: 'library',
  'bom-ref': path,
  name,
  version,
  purl: `pkg:npm/${name.replace('@', '%40')}@${version}`,
  licenses: [{ expression: licence }],
  hashes: [{ alg: 'SHA-512', content: Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex') }],
})
