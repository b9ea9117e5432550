import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { build, type Metafile } from 'esbuild'
import { billOfMaterials, noticesOf, readPackage } from './notices.ts'

const ROOT = resolve(import.meta.dirname, '..')

/**
 * CommonJS modules of packages call `require` for modules of Node only, and `createRequire` would resolve paths in each
 * chunk. Node suppresses its deprecation warnings for files below `node_modules`, and does not recognize packages in a
 * bundle. Sources still run with these warnings.
 */
const BANNER = `const require = globalThis.process.getBuiltinModule
globalThis.process.noDeprecation = true`

/** Packages whose files are served from `node_modules`. */
const SERVED = ['node_modules/swagger-ui-dist']

/**
 * Bundles the gateway and its packages: `server.js`, `bin/*.js`, the thread of the SQLite record, and chunks beside
 * them that are loaded only if a setting needs them. Also writes the notices and the bill of materials of the packages.
 */
export const bundleGateway = async (folder: string): Promise<void> => {
  rmSync(folder, { recursive: true, force: true })
  const commands = (await readdir(join(ROOT, 'src/bin'))).map((file) => `bin/${file.replace(/\.ts$/, '')}`)
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: {
      server: 'src/server.ts',
      // In the folder of the chunks: its URL is relative to the chunk that starts it.
      'sqlite-worker': 'src/audit/sqlite-worker.ts',
      ...Object.fromEntries(commands.map((name) => [name, `src/${name}.ts`])),
    },
    outdir: folder,
    bundle: true,
    splitting: true,
    chunkNames: '[name]-[hash]',
    format: 'esm',
    platform: 'node',
    target: 'node24',
    // Not minified: stack traces keep the names of functions, and the maps give files and lines.
    sourcemap: 'linked',
    sourcesContent: false,
    banner: { js: BANNER },
    define: { 'Intl.ListFormat': 'LazyListFormat' },
    inject: ['build/lazy-list-format.ts'],
    // An optional addition to pg, which is not installed.
    external: ['pg-native'],
    metafile: true,
    logLevel: 'warning',
  })
  const packages = [...bundledPackages(metafile), ...SERVED].sort().map((path) => readPackage(ROOT, path))
  writeFileSync(join(folder, 'THIRD-PARTY-NOTICES.txt'), noticesOf(packages))
  const { name, version, license } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const subject = { type: 'application', name, version, license } as const
  writeFileSync(join(folder, 'sbom.cdx.json'), billOfMaterials(ROOT, subject, packages))
}

const bundledPackages = ({ outputs }: Metafile): readonly string[] => {
  const files = Object.values(outputs).flatMap(({ inputs }) => Object.keys(inputs))
  return [...new Set(files.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []))]
}

if (import.meta.main) await bundleGateway(resolve(process.argv[2] ?? 'dist'))
