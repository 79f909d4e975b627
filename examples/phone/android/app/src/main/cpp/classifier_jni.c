/* The native methods of org.qcompiler.example.Classifier. */
#include <jni.h>
#include <stdint.h>
#include <stdlib.h>

#include "classifier.h"

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_org_qcompiler_example_Classifier_##name

static jfloatArray refuse(JNIEnv *env, const char *exception, const char *why) {
    jclass kind = (*env)->FindClass(env, exception);
    if (kind) (*env)->ThrowNew(env, kind, why);
    return NULL;
}

/* Pixels as android.graphics.Color packs them, 0xAARRGGBB, to bytes. */
static void unpack(unsigned char *bytes, const jint *colours, jsize count) {
    for (jsize i = 0; i < count; i++)
        for (int channel = 0; channel < 3; channel++)
            bytes[4 * i + channel] = (unsigned char)((uint32_t)colours[i] >> (16 - 8 * channel));
}

NATIVE(jint, width)(JNIEnv *env, jclass type) {
    (void)env, (void)type;
    return classifier_width();
}

NATIVE(jint, height)(JNIEnv *env, jclass type) {
    (void)env, (void)type;
    return classifier_height();
}

NATIVE(jfloatArray, scores)(JNIEnv *env, jclass type, jintArray colours) {
    (void)type;
    jsize count = classifier_width() * classifier_height(), classes = classifier_classes();
    if (!colours || (*env)->GetArrayLength(env, colours) != count)
        return refuse(env, "java/lang/IllegalArgumentException", "expected width() * height() pixels");
    jint *taken = malloc(count * sizeof *taken);
    unsigned char *bytes = calloc(count, 4);
    float *scores = malloc(classes * sizeof *scores);
    jfloatArray result = NULL;
    int status = -1;
    if (taken && bytes && scores) {
        (*env)->GetIntArrayRegion(env, colours, 0, count, taken);
        unpack(bytes, taken, count);
        status = classifier_run(bytes, scores);
    }
    if (status)
        refuse(env, "java/lang/IllegalStateException", classifier_text(status));
    else if ((result = (*env)->NewFloatArray(env, classes)))
        (*env)->SetFloatArrayRegion(env, result, 0, classes, scores);
    free(scores);
    free(bytes);
    free(taken);
    return result;
}
