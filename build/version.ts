import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')

/** Each file that repeats the version of package.json, and the text around it there. */
const PLACES: Readonly<Record<string, RegExp>> = {
  'client/package.json': /(?<=^ {2}"version": ")[^"]+/m,
  'sandbox/package.json': /(?<=^ {2}"version": ")[^"]+/m,
  'package-lock.json': /(?<="name": "@?domain-task-gateway[/\w]*",\s+"version": ")[^"]+/g,
  'openapi.yaml': /(?<=^ {2}version: )\S+/m,
  Dockerfile: /(?<=org\.opencontainers\.image\.version=")[^"]+/,
  'deploy/kubernetes/kustomization.yaml': /(?<=newTag: )\S+/,
}

/** All files that repeat the version. */
export const VERSIONED_FILES = Object.keys(PLACES)

/** The version of the project, which package.json alone decides. */
export const readVersion = (root = ROOT): string => JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version

/** Files that state another version than package.json, or none. */
export const staleFiles = (root = ROOT): readonly string[] => {
  const version = readVersion(root)
  return Object.entries(PLACES).flatMap(([file, place]) => {
    const stated = readFileSync(join(root, file), 'utf8').match(place) ?? ['no version']
    return stated.filter((each) => each !== version).map((each) => `${file}: ${each}`)
  })
}

/** Writes the version of package.json to every other place. */
export const writeVersions = (root = ROOT): void => {
  const version = readVersion(root)
  for (const [file, place] of Object.entries(PLACES)) {
    const path = join(root, file)
    writeFileSync(path, readFileSync(path, 'utf8').replace(place, version))
  }
}

if (import.meta.main) writeVersions()
