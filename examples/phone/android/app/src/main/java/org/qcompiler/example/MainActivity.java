package org.qcompiler.example;

import android.app.Activity;
import android.content.Intent;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.net.Uri;
import android.os.Bundle;
import android.widget.Button;
import android.widget.ImageView;
import android.widget.LinearLayout;
import android.widget.TextView;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** A button that asks for a picture, the picture, and the name of its class. */
public final class MainActivity extends Activity {
    private static final int PICK = 1;

    private ImageView picture;
    private TextView answer;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        Button choose = new Button(this);
        choose.setText(R.string.choose);
        choose.setOnClickListener(view -> ask());
        picture = new ImageView(this);
        picture.setAdjustViewBounds(true);
        answer = new TextView(this);
        answer.setTextSize(24);
        LinearLayout column = new LinearLayout(this);
        column.setOrientation(LinearLayout.VERTICAL);
        column.setFitsSystemWindows(true);
        column.addView(choose);
        column.addView(answer);
        column.addView(picture);
        setContentView(column);
    }

    private void ask() {
        Intent intent = new Intent(Intent.ACTION_OPEN_DOCUMENT);
        intent.addCategory(Intent.CATEGORY_OPENABLE);
        intent.setType("image/*");
        startActivityForResult(intent, PICK);
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        super.onActivityResult(request, result, data);
        if (request != PICK || result != RESULT_OK || data == null || data.getData() == null) return;
        try {
            Bitmap taken = square(read(data.getData()));
            Bitmap small = Bitmap.createScaledBitmap(taken, Classifier.width(), Classifier.height(), true);
            int[] colours = new int[small.getWidth() * small.getHeight()];
            small.getPixels(colours, 0, small.getWidth(), 0, 0, small.getWidth(), small.getHeight());
            long start = System.nanoTime();
            float[] scores = Classifier.scores(colours);
            long microseconds = (System.nanoTime() - start) / 1000;
            picture.setImageBitmap(taken);
            answer.setText(getString(R.string.answer, name(Classifier.likeliest(scores)), microseconds));
        } catch (IOException error) {
            answer.setText(error.getMessage());
        }
    }

    private Bitmap read(Uri place) throws IOException {
        try (InputStream stream = getContentResolver().openInputStream(place)) {
            Bitmap found = stream == null ? null : BitmapFactory.decodeStream(stream);
            if (found == null) throw new IOException(getString(R.string.no_picture));
            return found;
        }
    }

    /** The middle of a picture, as the networks of qtrain's image folders are trained on. */
    private static Bitmap square(Bitmap whole) {
        int side = Math.min(whole.getWidth(), whole.getHeight());
        return Bitmap.createBitmap(
                whole, (whole.getWidth() - side) / 2, (whole.getHeight() - side) / 2, side, side);
    }

    /** The name of a class, a line of the app's names.txt. */
    private String name(int index) throws IOException {
        List<String> names = new ArrayList<>();
        try (BufferedReader lines =
                new BufferedReader(
                        new InputStreamReader(getAssets().open("names.txt"), StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) names.add(line);
        }
        return index < names.size() ? names.get(index) : String.valueOf(index);
    }
}
