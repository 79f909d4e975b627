package org.qcompiler.example;

/** The network of this app. Its methods may be called from several threads. */
final class Classifier {
    static {
        System.loadLibrary("classifier");
    }

    private Classifier() {}

    /** Pixels of a row of the pictures that the network takes. */
    static native int width();

    static native int height();

    /** The score of every class; colours: width() * height() pixels 0xAARRGGBB, row by row. */
    static native float[] scores(int[] colours);

    /** The index of the largest score, the first of equal ones. */
    static int likeliest(float[] scores) {
        int best = 0;
        for (int i = 1; i < scores.length; i++) {
            if (scores[i] > scores[best]) best = i;
        }
        return best;
    }
}
