/** Values in the order in which they came. */
export interface Bag<T> {
  readonly size: number
  /** The one that came first of all that are in. */
  first(): T | undefined
  /** All that are in at this moment. */
  values(): T[]
  /** Puts one in; what is returned takes it out again. */
  add(value: T): () => void
}

interface Place<T> {
  readonly value: T
  isTaken: boolean
  before: Place<T> | null
  after: Place<T> | null
}

/**
 * For what comes and goes with each request. A Set would do as well, but V8 copies one that is changed all the time over
 * and over, and each copy leads to the next: once the first of them is old, all that was ever in one survives the
 * collections of the young generation, and whatever hangs on it, which made each of them several times as long.
 */
export const createBag = <T>(): Bag<T> => {
  let first: Place<T> | null = null
  let last: Place<T> | null = null
  let size = 0

  const takeOut = (place: Place<T>): void => {
    const { before, after } = place
    if (before === null) first = after
    else before.after = after
    if (after === null) last = before
    else after.before = before
    // Else what is over would lead to what comes later, as those copies do.
    place.before = null
    place.after = null
    place.isTaken = true
    size -= 1
  }

  return {
    get size() {
      return size
    },

    first: () => first?.value,

    values: () => {
      const values: T[] = []
      for (let place = first; place !== null; place = place.after) values.push(place.value)
      return values
    },

    add: (value) => {
      const place: Place<T> = { value, isTaken: false, before: last, after: null }
      if (last === null) first = place
      else last.after = place
      last = place
      size += 1
      return () => {
        if (!place.isTaken) takeOut(place)
      }
    },
  }
}
