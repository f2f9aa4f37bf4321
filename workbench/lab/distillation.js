// The mathematics of distillation at one position; no DOM, no state.
//
// Teacher logits v, student logits z, temperature T, p = softmax(v/T), q = softmax(z/T).
// L = alpha * L_hard + (1 - alpha) * L_soft: alpha weighs the labels. L_hard is at T = 1.
// workbench.losses computes the same in Python; tests/browser compares the two.

/** log softmax(logits / T); the largest is subtracted first, so that no exp overflows. */
export function logSoftmax(logits, temperature = 1) {
  const n = logits.length;
  const out = new Float64Array(n);
  let largest = -Infinity;
  for (let i = 0; i < n; i++) {
    out[i] = logits[i] / temperature;
    if (out[i] > largest) largest = out[i];
  }
  let sum = 0;
  for (let i = 0; i < n; i++) {
    out[i] -= largest;
    sum += Math.exp(out[i]);
  }
  const logSum = Math.log(sum);
  for (let i = 0; i < n; i++) out[i] -= logSum;
  return out;
}

/** Probabilities from their logarithms. */
export function exponentials(logP) {
  return Float64Array.from(logP, Math.exp);
}

/** Entropy in nats; what is impossible adds nothing (0 log 0 = 0). */
export function entropy(p, logP) {
  let sum = 0;
  for (let i = 0; i < p.length; i++) if (p[i] > 0) sum -= p[i] * logP[i];
  return sum;
}

/** KL(a || b) in nats. */
export function divergence(a, logA, logB) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) if (a[i] > 0) sum += a[i] * (logA[i] - logB[i]);
  return sum;
}

/** log of the even mixture of two distributions; exact where both underflow. */
export function logMixture(logP, logQ) {
  const out = new Float64Array(logP.length);
  for (let i = 0; i < out.length; i++) {
    const high = Math.max(logP[i], logQ[i]);
    const low = Math.min(logP[i], logQ[i]);
    out[i] = high === -Infinity ? high : high + Math.log1p(Math.exp(low - high)) - Math.LN2;
  }
  return out;
}

/** Euclidean norm. */
export function norm(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
  return Math.sqrt(sum);
}

/** What a reduction makes of this position's soft loss, relative to the mean over tokens. */
export function reductionFactor(reduction, { tokens, sequences, vocabulary }) {
  const factors = {
    "token-mean": 1,
    "batchmean": tokens,
    "element-mean": 1 / vocabulary,
    "sum": tokens * sequences,
  };
  return factors[reduction];
}

/**
 * Everything the explorer shows.
 *
 * @param example {teacher, student: logits; oracle: log-probabilities or null; label: index;
 *     tokens, sequences: of a batch}
 * @param settings {temperature, alpha, squared, direction, reduction}
 * @returns the same names as `figures` in examples.py
 */
export function figures(example, settings) {
  const { temperature: T, alpha, direction } = settings;
  const n = example.student.length;
  const logP = logSoftmax(example.teacher, T), p = exponentials(logP);
  const logQ = logSoftmax(example.student, T), q = exponentials(logQ);
  const logM = logMixture(logP, logQ);
  const logSharp = logSoftmax(example.student, 1);

  const reverse = divergence(q, logQ, logP);
  const towardsMixture = divergence(q, logQ, logM);
  const divergences = {
    "forward": divergence(p, logP, logQ),
    "reverse": reverse,
    "jensen-shannon": 0.5 * (divergence(p, logP, logM) + towardsMixture),
  };
  const factor = (settings.squared ? T * T : 1)
    * reductionFactor(settings.reduction, { ...example, vocabulary: n });

  const hardGradient = new Float64Array(n), softGradient = new Float64Array(n);
  const scale = (1 - alpha) * factor / T;
  for (let i = 0; i < n; i++) {
    hardGradient[i] = alpha * (Math.exp(logSharp[i]) - (i === example.label ? 1 : 0));
    let slope;
    if (direction === "forward") slope = q[i] - p[i];
    else if (q[i] === 0) slope = 0;
    else if (direction === "reverse") slope = q[i] * (logQ[i] - logP[i] - reverse);
    else slope = 0.5 * q[i] * (logQ[i] - logM[i] - towardsMixture);
    softGradient[i] = scale * slope;
  }
  const hardNorm = norm(hardGradient), softNorm = norm(softGradient);
  const norms = hardNorm + softNorm;

  const who = { oracle: null, teacher: [p, logP], student: [q, logQ] };
  if (example.oracle) {
    const logO = logSoftmax(example.oracle, T);
    who.oracle = [exponentials(logO), logO];
  }
  const each = (f) => Object.fromEntries(
    Object.entries(who).map(([name, known]) => [name, known && f(...known)]));
  const entropies = each(entropy);
  const fromOracle = (logOther) => who.oracle && divergence(...who.oracle, logOther);
  const hard = -logSharp[example.label], soft = factor * divergences[direction];
  return {
    probabilities: each((values) => values),
    entropy: entropies,
    perplexity: Object.fromEntries(
      Object.entries(entropies).map(([name, h]) => [name, h === null ? null : Math.exp(h)])),
    kl_from_oracle: { teacher: fromOracle(logP), student: fromOracle(logQ) },
    divergence: divergences,
    hard,
    factor,
    soft,
    loss: alpha * hard + (1 - alpha) * soft,
    gradient: { hard: hardGradient, soft: softGradient },
    norm: { hard: hardNorm, soft: softNorm },
    share: {
      hard: norms > 0 ? hardNorm / norms : 0,
      soft: norms > 0 ? softNorm / norms : 0,
    },
  };
}
