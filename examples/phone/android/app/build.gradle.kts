plugins { id("com.android.application") version "8.7.3" }

android {
    namespace = "org.qcompiler.example"
    compileSdk = 35
    defaultConfig {
        applicationId = "org.qcompiler.example"
        minSdk = 24
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
        // the libraries of bundles for --target arm are for 64 bits
        ndk { abiFilters += "arm64-v8a" }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    externalNativeBuild { cmake { path = file("src/main/cpp/CMakeLists.txt") } }
}
