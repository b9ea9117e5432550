import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from '../helpers/process.ts'
import { type createBuilder, runIsolated } from './container-engine.ts'

// Images of packages of Debian and npm, which stand for the base images of the Dockerfile.

const run = promisify(execFile)

const NPM = 'npm@11.21.2'

/** Of the packages in Google's image only libssl3 is missing, which Node does not use. */
const RUNTIME_PACKAGES = [
  ...['base-files', 'gcc-12-base', 'libc6', 'libgcc-s1', 'libgomp1', 'libstdc++6', 'media-types', 'netbase', 'tzdata'],
]
/** Those of the list that the smallest Debian does not have, and the certificates. */
const ADDED_PACKAGES = 'ca-certificates,libgomp1,media-types,netbase'

const AUTHORITIES = 'etc/ssl/certs/ca-certificates.crt'
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const USER = 65_532

const nodeFolder = join(ROOT, 'node_modules', `node-linux-${process.arch}`)

/** The version of Node in the lock file. */
export const lockedNodeVersion = async (): Promise<string> => {
  const { packages } = JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8'))
  return packages[`node_modules/node-linux-${process.arch}`].version
}

/** Builds both base images, with the names of those that they stand for. */
export const buildBaseImages = async (folder: string, { build }: ReturnType<typeof createBuilder>): Promise<void> => {
  const [debian, packages, runtime] = [join(folder, 'debian'), join(folder, 'packages'), join(folder, 'runtime')]
  const options = ['--variant=minbase', `--include=${ADDED_PACKAGES}`]
  await runIsolated(folder, '/usr/sbin/debootstrap', ...options, 'bookworm', debian)
  await rename(join(debian, 'var/cache/apt/archives'), packages)

  await createRuntime(runtime, packages)
  await cp(join(debian, AUTHORITIES), join(runtime, AUTHORITIES))
  const runtimeFile = join(folder, 'Dockerfile.runtime')
  await writeFile(
    runtimeFile,
    `FROM scratch\nCOPY . /\nENV ${PATH} SSL_CERT_FILE=/${AUTHORITIES}\nUSER ${USER}\nWORKDIR /home/nonroot\nENTRYPOINT ["/nodejs/bin/node"]\n`,
  )
  await build({ name: 'gcr.io/distroless/nodejs24-debian12:nonroot', context: runtime, file: runtimeFile })

  await addNode(debian)
  const debianFile = join(folder, 'Dockerfile.debian')
  await writeFile(debianFile, `FROM scratch\nCOPY . /\nENV ${PATH}\n`)
  await build({ name: 'node:24-bookworm-slim', context: debian, file: debianFile })
}

/** Node, the libraries that Node needs, and the users root and nonroot. */
const createRuntime = async (root: string, packages: string): Promise<void> => {
  const files = await readdir(packages)
  for (const name of RUNTIME_PACKAGES) {
    const file = files.find((each) => each.startsWith(`${name}_`)) ?? name
    await run('/usr/bin/dpkg-deb', ['--extract', join(packages, file), root])
  }
  for (const path of ['nodejs/bin', dirname(AUTHORITIES)]) await mkdir(join(root, path), { recursive: true })
  await cp(join(nodeFolder, 'bin/node'), join(root, 'nodejs/bin/node'))
  await cp(join(nodeFolder, 'LICENSE'), join(root, 'nodejs/LICENSE'))
  const users = `root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:${USER}:${USER}:nonroot:/home/nonroot:/sbin/nologin\n`
  await writeFile(join(root, 'etc/passwd'), users)
  await writeFile(join(root, 'etc/group'), `root:x:0:\nnonroot:x:${USER}:\n`)
}

/** Node and npm, which uses the registry and the authorities of this machine's npm. */
const addNode = async (root: string): Promise<void> => {
  const prefix = join(root, 'usr/local')
  await cp(join(nodeFolder, 'bin/node'), join(prefix, 'bin/node'))
  await run('npm', ['install', '--global', '--prefix', prefix, '--ignore-scripts', '--no-audit', '--no-fund', NPM])
  const settings = [`registry=${await npmSetting('registry')}`]
  const authorities = [await npmSetting('cafile'), process.env.NODE_EXTRA_CA_CERTS ?? ''].find(existsSync)
  if (authorities !== undefined) {
    await cp(authorities, join(prefix, 'etc/authorities.pem'), { dereference: true })
    settings.push('cafile=/usr/local/etc/authorities.pem')
  }
  await mkdir(join(prefix, 'etc'), { recursive: true })
  await writeFile(join(prefix, 'etc/npmrc'), `${settings.join('\n')}\n`)
}

const npmSetting = async (name: string): Promise<string> => (await run('npm', ['config', 'get', name])).stdout.trim()
